//! Real nginx, with TLS and without, against real qemu-img where that can do it.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::programs::run::{Ran, qcheck, qemu_create, qemu_io, qemu_ok};
use crate::support::servers::real::free_port;
use crate::support::skip::skip;

/// nginx with a folder that it serves.
struct Nginx {
    child: Child,
    folder: TempDir,
    ports: [u16; 2],
}

/// Where Debian puts it, which is not in everybody's path.
const NGINX: &str = "/usr/sbin/nginx";

impl Nginx {
    /// Starts it; `None` where it is not installed.
    fn start() -> Option<Self> {
        if !Path::new(NGINX).exists() || Command::new("openssl").arg("version").output().is_err() {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let certificate = [
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-keyout",
            "key",
            "-out",
            "cert",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ];
        let made = Command::new("openssl").args(certificate).current_dir(path).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let ports = [free_port(), free_port()];
        let at = path.display();
        let config = format!(
            "daemon off; pid {at}/pid; error_log {at}/errors; worker_processes 1;\n\
             events {{ worker_connections 64; }}\n\
             http {{ access_log {at}/log; client_body_temp_path {at}/t; proxy_temp_path {at}/t;\n\
             fastcgi_temp_path {at}/t; uwsgi_temp_path {at}/t; scgi_temp_path {at}/t;\n\
             server {{ listen 127.0.0.1:{}; listen 127.0.0.1:{} ssl; root {at}/files;\n\
             ssl_certificate {at}/cert; ssl_certificate_key {at}/key;\n\
             location /plain/ {{ alias {at}/files/; max_ranges 0; }} }} }}\n",
            ports[0], ports[1]
        );
        fs::write(path.join("config"), config).unwrap();
        fs::create_dir(path.join("files")).unwrap();
        // Started as root it serves files as another user.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(path, open).unwrap();
        let mut command = Command::new(NGINX);
        command.args(["-p", ".", "-e", "errors", "-c"]).arg(path.join("config"));
        let child = command.current_dir(path).stderr(Stdio::null()).spawn().unwrap();
        let server = Self { child, folder, ports };
        let begin = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", ports[1])).is_err() {
            assert!(begin.elapsed() < Duration::from_secs(20), "nginx does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(server)
    }

    fn files(&self) -> std::path::PathBuf {
        self.folder.path().join("files")
    }

    fn secure(&self, args: &[&str], trusts: bool) -> Ran {
        let name = format!("https://localhost:{}/disk", self.ports[1]);
        let mut command = assert_cmd::Command::new(assert_cmd::cargo::cargo_bin!("qcheck"));
        command.args(args).arg(name).current_dir(self.files()).env_remove("RUST_LOG");
        let trusted = if trusts { "cert" } else { "none" };
        command.env("SSL_CERT_FILE", self.folder.path().join(trusted));
        command.env_remove("SSL_CERT_DIR").output().unwrap().into()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its workers end with a master that ends in an orderly way.
        let stop = Command::new("kill").arg(self.child.id().to_string()).status();
        assert!(stop.is_ok_and(|status| status.success()));
        let _ = self.child.wait();
    }
}

#[test]
fn nginx_is_read_with_tls_and_without_and_certificates_are_verified() {
    let Some(server) = Nginx::start() else {
        return skip("nginx", "nginx or openssl is not installed");
    };
    let files = server.files();
    qemu_create(&files, &["-f", "qcow2", "-o", "cluster_size=4k", "disk", "64M"]);
    qemu_io(&files, "disk", "write -P 7 1M 3M");
    let near = qcheck(&files, &["check", "--data", "--digest=sha256", "disk"]);
    let plain = format!("http://127.0.0.1:{}/disk", server.ports[0]);
    let far = qcheck(&files, &["check", "--data", "--digest=sha256", &plain]);
    assert_eq!((far.code, &far.out), (0, &near.out), "{}", far.err);
    let far = server.secure(&["check", "--data", "--digest=sha256"], true);
    assert_eq!((far.code, &far.out), (0, &near.out), "{}", far.err);
    let doubted = server.secure(&["check"], false);
    assert!(doubted.code == 1 && doubted.err.contains("certificate"), "{}", doubted.err);

    let without = format!("http://127.0.0.1:{}/plain/disk", server.ports[0]);
    let ran = qcheck(&files, &["check", &without]);
    assert!(ran.code == 1 && ran.err.contains("does not send parts"), "{}", ran.err);
    let absent = format!("http://127.0.0.1:{}/absent", server.ports[0]);
    let ran = qcheck(&files, &["check", &absent]);
    assert!(ran.code == 1 && ran.err.contains("there is no such file"), "{}", ran.err);

    // A relative name in an image is one of the same server.
    qemu_create(&files, &["-f", "qcow2", "-b", "disk", "-F", "qcow2", "over"]);
    let over = format!("http://127.0.0.1:{}/over", server.ports[0]);
    let args = ["--allow-remote-names", "convert", "-O", "raw", &over, "made"];
    let ran = qcheck(&files, &args);
    assert_eq!(ran.code, 0, "{}", ran.err);
    qemu_ok(&files, "qemu-img", &["compare", "made", "disk"]);
    let ran = qcheck(&files, &args[1..]);
    assert!(ran.code == 1 && ran.err.contains("is remote"), "{}", ran.err);
}

#[test]
fn an_image_that_is_replaced_meanwhile_is_noticed() {
    let Some(server) = Nginx::start() else {
        return skip("nginx", "nginx or openssl is not installed");
    };
    let files = server.files();
    fs::write(files.join("disk"), vec![7; 8 << 20]).unwrap();
    let name = format!("http://127.0.0.1:{}/disk", server.ports[0]);
    let disk = qcheck::Disk::open(&name).unwrap();
    let mut sector = [0; 512];
    disk.read_at(&mut sector, 0).unwrap();
    fs::write(files.join("disk"), vec![8; 8 << 20]).unwrap();
    // The tag of nginx has the time in seconds, and the length.
    fs::write(files.join("disk"), vec![8; (8 << 20) + 512]).unwrap();
    let error = disk.read_at(&mut sector, 4 << 20).unwrap_err().to_string();
    assert!(error.contains("was changed on the server"), "{error}");
}
