//! The long search that the tests leave out: batches over the golden adapters are killed at random moments, again and
//! again, and each must end with the folder of one that was not.
//!
//! `cargo build --release && cargo run --release --example kill_search -- 600 [seed]` searches for ten minutes.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

type Fault = Box<dyn Error>;

fn main() -> Result<(), Fault> {
    let mut arguments = std::env::args().skip(1);
    let seconds: u64 = arguments.next().ok_or("how many seconds?")?.parse()?;
    let seed: u64 = arguments.next().map_or(Ok(20_261_129), |seed| seed.parse())?;
    let folder = tempfile::tempdir()?;
    let program = std::env::current_exe()?;
    let program = program.ancestors().nth(2).ok_or("no folder above")?.join("lcr-audit");
    let search = Search { root: folder.path().to_owned(), program };
    search.lay_out()?;
    let (began, mut random, mut kills, mut rounds) = (Instant::now(), seed, 0_u64, 0_u64);
    let ways: [&[&str]; 3] = [&["--adapters-per-pass", "1"], &[], &["--save-every", "0"]];
    while began.elapsed() < Duration::from_secs(seconds) {
        let more = ways[rounds as usize % ways.len()];
        search.clear("whole")?;
        search.clear("killed")?;
        let start = Instant::now();
        search.start("whole", more)?.wait()?;
        let whole = start.elapsed();
        for _ in 0..5 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let mut child = search.start("killed", more)?;
            std::thread::sleep(whole.mul_f64((random >> 33) as f64 / f64::from(u32::MAX >> 1)));
            kills += u64::from(child.try_wait()?.is_none());
            child.kill()?;
            child.wait()?;
        }
        search.start("killed", more)?.wait()?;
        let (expected, found) = (search.tree("whole")?, search.tree("killed")?);
        if expected != found {
            let left = folder.keep();
            let differing = |name: &&String| expected.get(*name) != found.get(*name);
            let names: Vec<&String> = expected.keys().chain(found.keys()).filter(differing).collect();
            return Err(format!("seed {seed}, round {rounds}, {more:?}: {names:?} differ in {}", left.display()).into());
        }
        rounds += 1;
    }
    #[expect(clippy::print_stdout, reason = "the result of the search")]
    {
        println!("{rounds} rounds, {kills} kills, seed {seed}: nothing found");
    }
    Ok(())
}

/// A folder with a base and adapters, and the program.
struct Search {
    root: PathBuf,
    program: PathBuf,
}

impl Search {
    fn lay_out(&self) -> Result<(), Fault> {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        copy(&golden.join("qwen3_lora_qv/base"), &self.root.join("base"))?;
        let cases =
            ["qwen3_lora_qv", "qwen3_dora_qv", "qwen3_modules_to_save", "qwen3_lora_one_direction", "gpt2_lora"];
        for case in cases {
            copy(&golden.join(case).join("adapter"), &self.root.join("adapters").join(case))?;
        }
        std::fs::write(self.root.join("ids.json"), "[[1, 2, 3, 4, 5, 6, 7, 8], [9, 8, 7, 6, 5, 4, 3, 2]]")?;
        Ok(())
    }

    fn clear(&self, name: &str) -> Result<(), Fault> {
        let path = self.root.join(name);
        if path.exists() {
            std::fs::remove_dir_all(path)?;
        }
        Ok(())
    }

    fn start(&self, out: &str, more: &[&str]) -> Result<std::process::Child, Fault> {
        let fixed =
            ["batch", "base", "adapters", "--tokens", "ids.json", "--date", "2030-01-01", "--quiet", "--out", out];
        let mut command = Command::new(&self.program);
        command.args(fixed).args(more).current_dir(&self.root).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(command.spawn().map_err(|error| format!("{}: {error} (cargo build --release)", self.program.display()))?)
    }

    /// Every file under a folder with its bytes.
    fn tree(&self, name: &str) -> Result<BTreeMap<String, Vec<u8>>, Fault> {
        let (top, mut files) = (self.root.join(name), BTreeMap::new());
        let mut open = vec![top.clone()];
        while let Some(folder) = open.pop() {
            for entry in std::fs::read_dir(folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    open.push(path);
                } else {
                    files.insert(path.strip_prefix(&top)?.display().to_string(), std::fs::read(&path)?);
                }
            }
        }
        Ok(files)
    }
}

fn copy(from: &Path, to: &Path) -> Result<(), Fault> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        std::fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}
