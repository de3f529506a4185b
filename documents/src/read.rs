//! Reads files that must be plain: no link that a stranger laid, no pipe that never ends, no device.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Read, Result};
use std::path::Path;

/// Opens a plain file; whatever else stands there is an error and is neither followed nor waited for.
pub fn open_plain(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt;

        // A pipe without a writer would be waited for.
        options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed());
    }
    if std::fs::symlink_metadata(path)?.is_symlink() {
        return Err(not_plain());
    }
    let file = options.open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(not_plain()) }
}

/// The bytes of a plain file.
pub fn plain(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_plain(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn not_plain() -> Error {
    Error::new(ErrorKind::InvalidInput, "a link, folder, pipe or device stands there, where a plain file is expected")
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    #[test]
    fn plain_files_are_read_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = |name: &str| folder.path().join(name);
        std::fs::write(place("plain"), "text").expect("written");
        std::os::unix::fs::symlink(place("plain"), place("link")).expect("a link");
        rustix::fs::mknodat(rustix::fs::CWD, place("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .expect("a pipe");
        std::fs::create_dir(place("folder")).expect("a folder");
        assert_eq!(plain(&place("plain")).expect("readable"), b"text");
        for other in ["link", "pipe", "folder"] {
            assert_eq!(plain(&place(other)).expect_err(other).kind(), ErrorKind::InvalidInput, "{other}");
        }
        assert_eq!(plain(&place("nothing")).expect_err("nothing").kind(), ErrorKind::NotFound);
    }
}
