//! The program as a child process: killed when it takes too long or too much, its time and memory read from the system.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// After this a scan counts as one that never ends. It is there for scans that wait, for nothing else sees those; how
/// busy the machine is must not matter, so it is long.
const PATIENCE: Duration = Duration::from_secs(900);
/// Memory at which a scan is killed, so that it takes no other process with it.
const KILLED_AT: u64 = 2 << 30;

/// How a scan ended.
pub(crate) struct Ended {
    /// None where a signal ended it.
    pub(crate) code: Option<i32>,
    /// Why it was killed.
    pub(crate) killed: Option<&'static str>,
    /// Of the processor, all threads together: what others do on the machine is no part of it. By the clock where the
    /// system does not say.
    pub(crate) time: Duration,
    /// Peak of its memory, bytes; none where the system does not say.
    pub(crate) memory: Option<u64>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

/// Runs the program; what it prints goes through files in `aside`, so that no full pipe can hold it up.
pub(crate) fn run(aside: &Path, name: &str, arguments: &[&str]) -> Ended {
    let [out, err] = ["stdout", "stderr"].map(|stream| aside.join(format!("{name}.{stream}")));
    let create = |path: &Path| Stdio::from(File::create(path).expect("created"));
    let own = peak("self");
    let start = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_lcr-audit"))
        .args(arguments)
        .current_dir(aside)
        .env_remove("LCR_AUDIT_LOG")
        .stdin(Stdio::null())
        .stdout(create(&out))
        .stderr(create(&err))
        .spawn()
        .expect("the program starts");
    let (mut seen, mut killed) = (None, None);
    let (code, used) = loop {
        seen = seen.max(peak(&child.id().to_string()));
        if let Some(ended) = ended(&mut child) {
            break ended;
        }
        if killed.is_none() {
            killed = match () {
                () if start.elapsed() > PATIENCE => Some("it does not end"),
                () if seen.is_some_and(|bytes| bytes > KILLED_AT) => Some("it takes more and more memory"),
                () => None,
            };
            if killed.is_some() {
                child.kill().expect("killed");
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    // A child starts with its parent's peak: what the system reports is its own only above that.
    let memory = used.memory.filter(|reported| own.is_some_and(|own| *reported > own)).or(seen);
    let read = |path: &Path| fs_err::read(path).expect("readable");
    let time = used.time.unwrap_or_else(|| start.elapsed());
    Ended { code, killed, time, memory, stdout: read(&out), stderr: read(&err) }
}

/// What a child has used, as far as the system says.
#[derive(Default)]
struct Used {
    /// Peak, bytes.
    memory: Option<u64>,
    /// Of the processor.
    time: Option<Duration>,
}

/// Exit code of a child that has ended, and what it used.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn ended(child: &mut Child) -> Option<(Option<i32>, Used)> {
    let mut status = 0;
    #[expect(unsafe_code, reason = "only the system knows what a child that is gone has used")]
    // SAFETY: both pointers are to locals of the right types, and zeros are a valid `rusage`; the child is waited for
    // nowhere else.
    let (pid, usage) = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        (libc::wait4(child.id() as libc::pid_t, &raw mut status, libc::WNOHANG, &raw mut usage), usage)
    };
    assert!(pid >= 0, "the child cannot be waited for: {}", std::io::Error::last_os_error());
    let code = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
    let memory = u64::try_from(usage.ru_maxrss).ok().map(|kilobytes| kilobytes << 10);
    let time = [usage.ru_utime, usage.ru_stime].map(|part| {
        Duration::from_secs(part.tv_sec.unsigned_abs()) + Duration::from_micros(part.tv_usec.unsigned_abs())
    });
    (pid > 0).then(|| (code, Used { memory, time: Some(time[0] + time[1]) }))
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn ended(child: &mut Child) -> Option<(Option<i32>, Used)> {
    child.try_wait().expect("the child can be waited for").map(|status| (status.code(), Used::default()))
}

/// Peak memory of a running process so far, bytes; none where the system does not say.
fn peak(process: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}
