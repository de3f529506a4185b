//! The profile of known-good adapters that a run holds its adapters against: `--profile FILE`, or that of the policy.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use indexmap::IndexMap;
use lcr_analysis::questions::hold_against;
use lcr_documents::audit::{Asked, Depth, ProfilePin, Provenance, Question};
use lcr_documents::profile::Profile;
use lcr_gate::policy::Policy;

/// What adapters are held against.
#[derive(Debug, Args)]
pub(crate) struct KnownGoodArguments {
    /// Hold each adapter against the known-good ones of this file, which `lcr-audit calibrate` makes [default: that of
    /// the policy].
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
}

impl KnownGoodArguments {
    /// The profile that the command line names, or else the policy.
    pub(crate) fn find(&self, policy: &Policy) -> Result<Option<KnownGood>> {
        match &self.profile {
            Some(path) => KnownGood::open(path, policy.profile.rate).map(Some),
            None => KnownGood::of_policy(policy),
        }
    }
}

/// A profile, and how often an honest adapter may be called unlike its adapters.
#[derive(Debug, Clone)]
pub(crate) struct KnownGood {
    profile: Profile,
    pin: ProfilePin,
    rate: f64,
}

impl KnownGood {
    /// The profile that a policy names.
    pub(crate) fn of_policy(policy: &Policy) -> Result<Option<Self>> {
        let Some(path) = policy.profile_path() else { return Ok(None) };
        let context = || format!("profile.path of the policy {}", policy.source);
        let found = Self::open(&path, policy.profile.rate).with_context(context)?;
        match policy.profile.sha256.as_deref() {
            Some(expected) if !expected.eq_ignore_ascii_case(&found.pin.sha256) => bail!(
                "{} is not the profile that the policy {} pins: its SHA-256 is {}, {expected} is asked for",
                path.display(),
                policy.source,
                found.pin.sha256
            ),
            _ => Ok(Some(found)),
        }
    }

    /// The profile that a report names, if it is still what it was.
    pub(crate) fn reopen(pin: Option<&ProfilePin>, rate: f64) -> Result<Option<Self>> {
        let Some(pin) = pin else { return Ok(None) };
        let found = Self::open(Path::new(&pin.path), rate)?;
        if found.pin.sha256 != pin.sha256 {
            bail!("{} is not the profile that the report was made with", pin.path);
        }
        Ok(Some(found))
    }

    fn open(path: &Path, rate: f64) -> Result<Self> {
        let (profile, sha256) = Profile::open(path)?;
        Ok(Self { profile, pin: ProfilePin { path: path.display().to_string(), sha256 }, rate })
    }

    /// The depth where none is named: that of the command, or the first that holds adapters against known-good ones.
    pub(crate) fn usual_depth(known_good: Option<&Self>, of_command: Depth) -> Depth {
        known_good.map_or(of_command, |_| of_command.max(Depth::Standard))
    }

    /// What reports say of it.
    pub(crate) fn pin(&self) -> ProfilePin {
        self.pin.clone()
    }

    /// Refuses a profile of another base, of other probes, or that was asked otherwise.
    pub(crate) fn fit(&self, provenance: &Provenance, asked: &Asked) -> Result<()> {
        if asked.depth < Depth::Standard {
            bail!("{}: known-good adapters are compared at depth `standard` or `deep`, not `quick`", self.pin.path);
        }
        let base = provenance.base.as_deref().unwrap_or_default();
        let fits = self.profile.fits(env!("CARGO_PKG_VERSION"), base, &provenance.probes, asked);
        fits.with_context(|| format!("{} cannot be used", self.pin.path))
    }

    /// Answers whether an adapter, known by the digest of its tensors, is unlike them.
    pub(crate) fn hold(&self, questions: &mut IndexMap<String, Question>, sha256: &str) {
        hold_against(questions, &self.profile, sha256, self.rate);
    }
}
