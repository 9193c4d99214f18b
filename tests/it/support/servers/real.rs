//! Real servers, each on a socket in a folder of its own; they end with the value.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a server has to begin.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server that runs.
#[derive(Debug)]
pub struct Server {
    child: Child,
    folder: TempDir,
}

impl Server {
    /// An image as qemu-nbd serves it: its bytes, for several clients.
    pub fn qemu_nbd(image: &Path) -> Self {
        Self::qemu_nbd_with(image, &[])
    }

    /// The same with further options.
    pub fn qemu_nbd_with(image: &Path, options: &[&str]) -> Self {
        Self::start("qemu-nbd", |socket| {
            let mut args = ["-t", "-f", "raw", "--shared=8", "-k"].map(PathBuf::from).to_vec();
            args.push(socket.to_owned());
            args.extend(options.iter().map(PathBuf::from));
            args.push(image.to_owned());
            args
        })
    }

    /// The same on a port of this machine.
    pub fn qemu_nbd_on_port(image: &Path, port: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new("qemu-nbd")
            .args(["-t", "-f", "raw", "--shared=8", "--bind=127.0.0.1"])
            .arg(format!("--port={port}"))
            .arg(image)
            .stdin(Stdio::null())
            .spawn();
        let server = Self { child: child.expect("qemu-nbd starts"), folder };
        wait_for("qemu-nbd", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        server
    }

    /// An image as qemu-storage-daemon serves it, writable, under the name `disk`.
    pub fn storage_daemon(image: &Path) -> Self {
        Self::start("qemu-storage-daemon", |socket| {
            let image = image.display();
            [
                "--blockdev".into(),
                format!("driver=file,node-name=disk,filename={image},discard=unmap"),
            ]
            .into_iter()
            .chain(nbd_export(socket))
            .map(PathBuf::from)
            .collect()
        })
    }

    /// The disk in a qcow2 image, as a machine has it: under the name `disk`, writable, with
    /// further options of the format and of the file. Snapshots are made with [`Self::monitor`].
    pub fn machine(image: &Path, format: &str, file: &str) -> Self {
        Self::start("qemu-storage-daemon", |socket| {
            let monitor = socket.with_file_name("m");
            let image = image.display();
            [
                "--blockdev".into(),
                format!("driver=file,node-name=file,filename={image},discard=unmap{file}"),
                "--blockdev".into(),
                format!("driver=qcow2,node-name=disk,file=file,discard=unmap{format}"),
                "--chardev".into(),
                format!("socket,id=monitor,path={},server=on,wait=off", monitor.display()),
                "--monitor".into(),
                "chardev=monitor".into(),
            ]
            .into_iter()
            .chain(nbd_export(socket))
            .map(PathBuf::from)
            .collect()
        })
    }

    /// Gives a machine's monitor commands, one after the other; each must be done.
    pub fn monitor(&self, commands: &[&str]) {
        let stream = UnixStream::connect(self.folder.path().join("m")).expect("a monitor");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time for answers");
        let mut answers = BufReader::new(&stream).lines();
        for command in ["{\"execute\": \"qmp_capabilities\"}"].iter().chain(commands) {
            writeln!(&stream, "{command}").expect("a command is sent");
            let is_answer =
                |line: &String| line.contains("\"return\"") || line.contains("\"error\"");
            let answer = answers.by_ref().map(|line| line.expect("an answer")).find(is_answer);
            assert!(answer.is_some_and(|line| !line.contains("\"error\"")), "{command}");
        }
    }

    /// A plugin of nbdkit with filters, as its arguments.
    pub fn nbdkit(args: &[&str]) -> Self {
        Self::start("nbdkit", |socket| {
            let own = ["-f", "--exit-with-parent", "-U"].map(PathBuf::from);
            let mut all = own.to_vec();
            all.push(socket.to_owned());
            all.extend(args.iter().map(PathBuf::from));
            all
        })
    }

    fn start(program: &str, args: impl FnOnce(&Path) -> Vec<PathBuf>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let args = args(&socket);
        let child = Command::new(program)
            .args(args.iter().map(AsRef::<OsStr>::as_ref))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        let child = child.unwrap_or_else(|error| panic!("{program} does not start: {error}"));
        let server = Self { child, folder };
        wait_for(program, || UnixStream::connect(&socket).is_ok());
        server
    }

    /// The name of its export, or of its default one.
    pub fn name(&self, export: &str) -> String {
        let socket = self.folder.path().join("s");
        // In the form of QEMU's, which info and map print.
        let slash = if export.is_empty() { "" } else { "/" };
        format!("nbd+unix://{slash}{export}?socket={}", socket.display())
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("s")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until a server listens.
fn wait_for(program: &str, listens: impl Fn() -> bool) {
    let begin = Instant::now();
    while !listens() {
        assert!(begin.elapsed() < PATIENCE, "{program} does not listen");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A port of this machine that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Whether a program can be started here.
pub fn has(program: &str) -> bool {
    let version = Command::new(program).arg("--version").stdout(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

/// The arguments with which qemu-storage-daemon exports the node `disk` at a socket.
fn nbd_export(socket: &Path) -> [String; 4] {
    [
        "--nbd-server".into(),
        format!("addr.type=unix,addr.path={},max-connections=0", socket.display()),
        "--export".into(),
        "type=nbd,id=export,node-name=disk,name=disk,writable=on".into(),
    ]
}
