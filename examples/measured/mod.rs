//! What a program takes while it runs: wall time and peaks of memory. Shared by the benchmarks.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Writes a line on standard output.
pub(crate) fn say(text: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{text}")?;
    Ok(())
}

/// One finished run of a program.
pub(crate) struct Measured {
    pub(crate) wall: Duration,
    /// Peak of anonymous memory, bytes.
    pub(crate) anonymous: u64,
    /// Peak of all resident memory, mapped files included, bytes.
    pub(crate) resident: u64,
    /// What it wrote on standard output, then on standard error.
    pub(crate) output: String,
}

/// Runs a program to its end and watches its memory.
pub(crate) fn measure(mut command: Command) -> Result<Measured> {
    let started = Instant::now();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let notes = collect(child.stderr.take().context("no standard error")?);
    let output = collect(child.stdout.take().context("no standard output")?);
    let (anonymous, resident) = watch(&mut child)?;
    let status = child.wait()?;
    let wall = started.elapsed();
    let text = |reader: std::thread::JoinHandle<std::io::Result<String>>| {
        reader.join().map_err(|_| anyhow::anyhow!("reading what it wrote failed"))
    };
    let output = text(output)?? + &text(notes)??;
    if !status.success() {
        bail!("{command:?} failed: {output}");
    }
    Ok(Measured { wall, anonymous, resident, output })
}

/// Reads a stream to its end on a thread of its own.
fn collect(mut stream: impl Read + Send + 'static) -> std::thread::JoinHandle<std::io::Result<String>> {
    std::thread::spawn(move || {
        let mut text = String::new();
        stream.read_to_string(&mut text).map(|_| text)
    })
}

/// Peaks of a process's memory, sampled every ten milliseconds; the kernel's own high-water mark closes the gaps.
fn watch(child: &mut Child) -> Result<(u64, u64)> {
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let (mut anonymous, mut resident) = (0, 0);
    while child.try_wait()?.is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let field = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kibibytes| kibibytes << 10)
        };
        anonymous = anonymous.max(field("RssAnon:").unwrap_or(0));
        resident = resident.max(field("VmHWM:").unwrap_or(0));
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok((anonymous, resident))
}
