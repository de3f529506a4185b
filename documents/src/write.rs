//! THE way to put a file in its place: written aside in the same folder, flushed to the disk, renamed.
//!
//! A reader sees the old file or the new one, never half of either, and a run that fails leaves the old one. What
//! stands at the place is replaced and not followed: a link that a stranger laid there, to a file elsewhere, ends as a
//! plain file. The mode is that of any file which the user makes (`umask`), not the private one of temporary files.

use std::fs::{File, FileType, OpenOptions};
use std::io::{Error, ErrorKind, Result, Write};
use std::path::{Component, Path, PathBuf};

use tempfile::NamedTempFile;

use crate::steps::step;

/// How the names of unfinished files begin, so that what a killed run left can be told from what somebody wants.
pub const UNFINISHED: &str = ".writing-";

/// A file in the making: what is written to it stands at its place only after [`Aside::commit`]; dropped, it leaves
/// nothing.
#[derive(Debug)]
pub struct Aside {
    file: NamedTempFile,
    place: PathBuf,
}

impl Aside {
    /// Begins a file that will stand at `place`, whose folder must exist.
    pub fn begin(place: &Path) -> Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(UNFINISHED);
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        Ok(Self { file: builder.tempfile_in(folder_of(place))?, place: place.to_owned() })
    }

    /// The file itself, for what needs to seek or to map it.
    pub fn file_mut(&mut self) -> &mut File {
        self.file.as_file_mut()
    }

    /// Flushes the file to the disk and renames it to its place.
    pub fn commit(self) -> Result<()> {
        let Self { file, place } = self;
        file.as_file().sync_all()?;
        step();
        file.persist(&place).map_err(|failed| failed.error)?;
        sync_folder(folder_of(&place));
        step();
        Ok(())
    }
}

impl Write for Aside {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> Result<()> {
        self.file.flush()
    }
}

/// Puts a file with this content at `place`.
///
/// A device or pipe is written to as it is, and so is what `/dev` and `/proc` link to, such as `/dev/stdout`; any other
/// link is replaced by the file.
pub fn replace(place: &Path, content: &[u8]) -> Result<()> {
    if is_stream(place)? {
        return OpenOptions::new().write(true).open(place)?.write_all(content);
    }
    let mut aside = Aside::begin(place)?;
    aside.write_all(content)?;
    aside.commit()
}

/// Adds to the end of a file that others write to as well; it is made where it is not there, and a link is refused.
pub fn append(place: &Path, content: &[u8]) -> Result<()> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    if !is_stream(place)? {
        refuse_links(&mut options);
        refuse_link(place)?;
    }
    let mut file = options.open(place)?;
    file.write_all(content)?;
    if file.metadata()?.is_file() {
        file.sync_all()?;
        step();
    }
    Ok(())
}

/// Makes a folder below `root`, and those between; an entry on the way that is a link is refused, for what is written
/// there would land elsewhere. `root` itself may be one: who names it knows it.
pub fn folder_within(root: &Path, relative: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(root)?;
    let mut folder = root.to_owned();
    for part in relative.components() {
        let Component::Normal(name) = part else {
            return Err(Error::new(ErrorKind::InvalidInput, "a folder below is needed, and this leads out"));
        };
        folder.push(name);
        match std::fs::create_dir(&folder) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                if !std::fs::symlink_metadata(&folder)?.is_dir() {
                    let message =
                        format!("{} is a link or a file, where a folder is needed: remove it", folder.display());
                    return Err(Error::new(ErrorKind::NotADirectory, message));
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(folder)
}

/// Removes what killed runs left unfinished in a folder: files and folders whose names begin with one of `prefixes`.
/// Only for a folder that nobody else writes to.
pub fn sweep(folder: &Path, prefixes: &[&str]) -> Result<()> {
    for (path, kind) in unfinished(folder, prefixes)? {
        if kind.is_dir() {
            std::fs::remove_dir_all(path)?;
        } else {
            std::fs::remove_file(path)?;
        }
        step();
    }
    Ok(())
}

/// The same for folders alone: of those it is known who makes them, while any process may be about to rename a file.
pub fn sweep_folders(folder: &Path, prefixes: &[&str]) -> Result<()> {
    for (path, _) in unfinished(folder, prefixes)?.into_iter().filter(|(_, kind)| kind.is_dir()) {
        std::fs::remove_dir_all(path)?;
        step();
    }
    Ok(())
}

fn unfinished(folder: &Path, prefixes: &[&str]) -> Result<Vec<(PathBuf, FileType)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if prefixes.iter().any(|prefix| name.as_encoded_bytes().starts_with(prefix.as_bytes())) {
            found.push((entry.path(), entry.file_type()?));
        }
    }
    Ok(found)
}

/// Opens a file that is written little by little, to read and write it where it stands; it is made where it is not
/// there, and a link in its place is an error.
pub fn open_kept(place: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    refuse_links(&mut options);
    refuse_link(place)?;
    options.open(place)
}

fn refuse_link(place: &Path) -> Result<()> {
    if std::fs::symlink_metadata(place).is_ok_and(|known| known.is_symlink()) {
        let message = "a link stands there; what it leads to is not written to";
        return Err(Error::new(ErrorKind::InvalidInput, message));
    }
    Ok(())
}

/// What is opened is no link, even where one is laid there in this very moment.
fn refuse_links(options: &mut OpenOptions) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
    }
    #[cfg(not(unix))]
    let _ = options;
}

/// Flushes a folder's entries to the disk, so that a rename in it survives a power cut. Systems and file systems that
/// cannot are let be: the file itself is safe.
pub fn sync_folder(folder: &Path) {
    #[cfg(unix)]
    if let Ok(opened) = File::open(folder) {
        let _ = opened.sync_all();
    }
    #[cfg(not(unix))]
    let _ = folder;
}

/// The folder in which a place is; the current one for a mere name.
fn folder_of(place: &Path) -> &Path {
    place.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether a place is a device or pipe, or a link of the system's own to whatever this process has open.
fn is_stream(place: &Path) -> Result<bool> {
    let Ok(known) = std::fs::symlink_metadata(place) else { return Ok(false) };
    if known.is_dir() {
        return Err(Error::new(ErrorKind::IsADirectory, "a folder stands there"));
    }
    if known.is_symlink() {
        let folder = folder_of(place).canonicalize()?;
        return Ok(["/dev", "/proc"].iter().any(|system| folder.starts_with(system)));
    }
    Ok(!known.is_file())
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_link_is_replaced_and_its_target_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let (secret, link) = (folder.path().join("secret"), folder.path().join("report.xml"));
        fs::write(&secret, "kept").expect("a file");
        symlink(&secret, &link).expect("a link");
        replace(&link, b"new").expect("written");
        assert_eq!(fs::read(&secret).expect("still there"), b"kept");
        assert_eq!(fs::read(&link).expect("there"), b"new");
        assert!(fs::symlink_metadata(&link).expect("there").is_file());
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 2, "nothing is left beside them");
    }

    #[test]
    fn a_dangling_link_makes_nothing_at_its_target() {
        let folder = tempfile::tempdir().expect("a folder");
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        symlink(&target, &link).expect("a link");
        assert!(append(&link, b"x").is_err());
        replace(&link, b"x").expect("written");
        assert!(!target.exists());
    }

    #[test]
    fn the_mode_is_that_of_any_new_file() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("plain"), "").expect("a file");
        replace(&folder.path().join("ours"), b"").expect("written");
        let mode = |name: &str| fs::metadata(folder.path().join(name)).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode("ours"), mode("plain"));
    }

    #[test]
    fn what_is_not_committed_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().join("a");
        fs::write(&place, "old").expect("a file");
        let mut aside = Aside::begin(&place).expect("begun");
        aside.write_all(b"half").expect("written");
        drop(aside);
        assert_eq!(fs::read(&place).expect("there"), b"old");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }

    #[test]
    fn appending_adds_and_a_folder_is_no_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().join("summary.md");
        append(&place, b"one\n").expect("made");
        append(&place, b"two\n").expect("added");
        assert_eq!(fs::read(&place).expect("there"), b"one\ntwo\n");
        assert!(replace(folder.path(), b"x").is_err());
    }

    #[test]
    fn folders_below_are_made_and_links_on_the_way_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let (root, elsewhere) = (folder.path().join("out"), folder.path().join("elsewhere"));
        fs::create_dir(&elsewhere).expect("a folder");
        assert_eq!(folder_within(&root, Path::new("a/b")).expect("made"), root.join("a/b"));
        assert_eq!(folder_within(&root, Path::new("a/b")).expect("there"), root.join("a/b"));
        symlink(&elsewhere, root.join("a/link")).expect("a link");
        assert!(folder_within(&root, Path::new("a/link/c")).is_err());
        for out in ["../elsewhere", "/tmp", "a/../../elsewhere"] {
            assert!(folder_within(&root, Path::new(out)).is_err(), "{out}");
        }
        assert_eq!(fs::read_dir(&elsewhere).expect("a folder").count(), 0);
    }

    #[test]
    fn what_was_left_unfinished_goes_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let kept = folder.path().join("kept");
        fs::create_dir(&kept).expect("a folder");
        fs::create_dir_all(folder.path().join(".writing-a/b")).expect("a folder");
        fs::write(folder.path().join(".writing-c"), "half").expect("written");
        symlink(&kept, folder.path().join(".writing-d")).expect("a link");
        fs::write(kept.join(".writing-e"), "not looked at").expect("written");
        sweep(folder.path(), &[UNFINISHED]).expect("swept");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
        assert!(kept.join(".writing-e").exists());
    }

    #[test]
    fn devices_are_written_to() {
        replace(Path::new("/dev/null"), b"x").expect("written");
        append(Path::new("/dev/null"), b"x").expect("written");
    }
}
