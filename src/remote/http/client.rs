//! Parts of one object: requested over several connections, again after failures that pass, and
//! always of the version that the first answer was of.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, RootCertStore};

use super::connection::{Answer, Connection};
use super::location::Location;
use crate::remote::settings::Settings;

/// Most redirects from the name to the object.
const MAX_REDIRECTS: usize = 8;
/// The first pause before a request is made again; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest of these pauses.
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// Which version of an object is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Bytes of the object.
    pub bytes: u64,
    tag: Option<String>,
    modified: Option<String>,
}

impl Version {
    /// Whether the server names it, so that every answer shows whether it is still this one.
    pub const fn has_name(&self) -> bool {
        self.tag.is_some() || self.modified.is_some()
    }
}

/// Why a request has no answer.
enum Failure {
    /// It may be answered when it is made again, after this time.
    Passing(io::Error, Option<Duration>),
    Final(io::Error),
}

/// Requests parts of one object. All methods may be called from several threads.
pub struct Client {
    named: Location,
    /// Where the name was redirected to.
    current: Mutex<Location>,
    idle: Mutex<Vec<(Location, Connection)>>,
    tls: OnceLock<Arc<ClientConfig>>,
    version: Mutex<Option<Version>>,
    settings: Settings,
}

impl Client {
    /// A client for what is at a location; nothing is requested yet.
    pub fn new(named: Location, settings: Settings) -> Self {
        Self {
            current: Mutex::new(named.clone()),
            named,
            idle: Mutex::default(),
            tls: OnceLock::new(),
            version: Mutex::default(),
            settings,
        }
    }

    /// The bytes of a range and the version that they are of, up to the end of the object.
    ///
    /// Fails as soon as the server has answered with an error that does not pass, or when the time
    /// for an answer is over.
    pub fn get(&self, range: &Range<u64>) -> io::Result<Vec<u8>> {
        let begin = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let left = self.settings.timeout.saturating_sub(begin.elapsed());
            let patience = left.max(Duration::from_millis(100));
            let (error, after) = match self.follow(range, patience) {
                Ok(content) => return Ok(content),
                Err(Failure::Final(error)) => return Err(error),
                // Where nobody listens at first there is no server; later it may come back.
                Err(Failure::Passing(error, _))
                    if error.kind() == io::ErrorKind::ConnectionRefused
                        && self.version().is_none() =>
                {
                    return Err(error);
                }
                Err(Failure::Passing(error, after)) => (error, after),
            };
            let wait = after.map_or_else(|| with_jitter(pause), |after| after.max(FIRST_PAUSE));
            if wait >= self.settings.timeout.saturating_sub(begin.elapsed()) {
                return Err(error);
            }
            log::info!("{}: {error}: again after {} ms", self.named, wait.as_millis());
            thread::sleep(wait);
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// The version that is read, once there was an answer.
    pub fn version(&self) -> Option<Version> {
        lock(&self.version).clone()
    }

    /// Requests a range, following redirects.
    fn follow(&self, range: &Range<u64>, patience: Duration) -> Result<Vec<u8>, Failure> {
        let began = lock(&self.current).clone();
        let (mut at, mut is_again) = (began.clone(), false);
        for _ in 0..=MAX_REDIRECTS {
            let answer = self.request(&at, range, patience)?;
            let status = answer.head.status;
            match status {
                301 | 302 | 303 | 307 | 308 => {
                    let to = answer.head.field("location");
                    let missing = || super::message::violation("a redirect to nowhere");
                    let to = to.ok_or_else(missing).map_err(Failure::Final)?;
                    at = at.redirected(to).map_err(Failure::Final)?;
                }
                // Redirects that are signed are valid for some time. Other requests may have found
                // that out already.
                401 | 403 | 404 | 410 if at != self.named && at == began && !is_again => {
                    (at, is_again) = (self.named.clone(), true);
                    let mut current = lock(&self.current);
                    if *current == began {
                        *current = at.clone();
                    }
                }
                _ => {
                    let content = self.taken(&at, range, answer)?;
                    *lock(&self.current) = at;
                    return Ok(content);
                }
            }
        }
        let why = format!("the server redirects more than {MAX_REDIRECTS} times");
        Err(Failure::Final(io::Error::other(why)))
    }

    /// One request, over a connection that is idle or a new one.
    fn request(
        &self,
        at: &Location,
        range: &Range<u64>,
        patience: Duration,
    ) -> Result<Answer, Failure> {
        let tag =
            self.version().and_then(|version| version.tag).filter(|tag| !tag.starts_with("W/"));
        let tag = tag.as_deref();
        let idle = {
            let mut idle = lock(&self.idle);
            let found = idle.iter().rposition(|(to, _)| to.has_origin_of(at));
            found.map(|found| idle.swap_remove(found).1)
        };
        let mut was_idle = idle.is_some();
        let mut connection = idle.map_or_else(|| self.connect(at, patience), Ok)?;
        loop {
            match connection.get(at, range, tag, patience) {
                Ok(answer) => {
                    if answer.keeps {
                        lock(&self.idle).push((at.clone(), connection));
                    }
                    return Ok(answer);
                }
                // The server may have closed it before it got the request.
                Err(error) if was_idle && error.kind() != io::ErrorKind::TimedOut => {
                    was_idle = false;
                    connection = self.connect(at, patience)?;
                }
                Err(error) => return Err(classed(error)),
            }
        }
    }

    fn connect(&self, at: &Location, patience: Duration) -> Result<Connection, Failure> {
        let tls = match (at.is_secure, self.tls.get()) {
            (false, _) => None,
            (true, Some(config)) => Some(config.clone()),
            (true, None) => {
                let config = tls().map_err(Failure::Final)?;
                Some(self.tls.get_or_init(|| config).clone())
            }
        };
        Connection::open(at, tls, patience).map_err(classed)
    }

    /// The content of an answer that is a part of the version that is read.
    fn taken(&self, at: &Location, range: &Range<u64>, answer: Answer) -> Result<Vec<u8>, Failure> {
        let head = &answer.head;
        let fail = |kind, why: &str| Err(Failure::Final(io::Error::new(kind, why.to_owned())));
        let bytes = match head.status {
            206 => head.content_range().map_err(Failure::Final)?.1,
            416 => match head.unsatisfied_length() {
                Some(bytes) if bytes <= range.start => bytes,
                _ => return fail(io::ErrorKind::InvalidData, "the server refuses the range"),
            },
            200 => {
                let why = "the server does not send parts of a file (no range requests)";
                return fail(io::ErrorKind::Unsupported, why);
            }
            412 => return fail(io::ErrorKind::InvalidData, CHANGED),
            status => return Err(refusal(at, status, head.field("retry-after"))),
        };
        let field = |name| head.field(name).map(str::to_owned);
        let seen = Version { bytes, tag: field("etag"), modified: field("last-modified") };
        let mut version = lock(&self.version);
        match version.as_ref() {
            None => {
                if !seen.has_name() {
                    log::warn!("{at}: no version: a change of the same length may not be seen");
                }
                *version = Some(seen);
            }
            // An answer that has nothing to read need not have the version.
            Some(known) if *known == seen || head.status == 416 && known.bytes == bytes => {}
            Some(_) => return fail(io::ErrorKind::InvalidData, CHANGED),
        }
        Ok(answer.content)
    }
}

/// The error of an object that is not the one that was opened.
pub const CHANGED: &str = "the file was changed on the server while it was read";

/// What an error of a connection means.
fn classed(error: io::Error) -> Failure {
    match error.kind() {
        // TLS that is refused, and names that are not known, stay so.
        io::ErrorKind::InvalidData
        | io::ErrorKind::InvalidInput
        | io::ErrorKind::NotFound
        | io::ErrorKind::Other => Failure::Final(error),
        _ => Failure::Passing(error, None),
    }
}

/// What a status that is an error means.
fn refusal(at: &Location, status: u16, after: Option<&str>) -> Failure {
    let kind = match status {
        401 | 403 | 407 => io::ErrorKind::PermissionDenied,
        404 | 410 => io::ErrorKind::NotFound,
        _ => io::ErrorKind::Other,
    };
    let what = match status {
        401 | 407 => ": it requires other credentials",
        403 => ": access is denied",
        404 | 410 => ": there is no such file",
        429 => ": too many requests",
        503 => ": it is overloaded",
        _ => "",
    };
    let host = at.authority();
    let error = io::Error::new(kind, format!("the server {host} answered with {status}{what}"));
    match status {
        408 | 425 | 429 | 500 | 502..=504 => {
            let seconds = after.and_then(|after| after.parse().ok()).map(Duration::from_secs);
            Failure::Passing(error, seconds)
        }
        _ => Failure::Final(error),
    }
}

/// A pause that differs between clients, from half of it on.
fn with_jitter(pause: Duration) -> Duration {
    let random = RandomState::new().hash_one(0_u8) % 1024;
    pause / 2 + pause * u32::try_from(random).unwrap_or(0) / 2048
}

/// Certificates are verified by the authorities of the system, or the files that `SSL_CERT_FILE`
/// and `SSL_CERT_DIR` name, as for other programs.
fn tls() -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (_, refused) = roots.add_parsable_certificates(found.certs);
    log::debug!("{} trusted certificates, {refused} not valid: {:?}", roots.len(), found.errors);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

// No panic leaves what it guards half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
