//! Windows of attention: which layers see only the latest tokens, as transformers derives it for each family.

use serde_json::Value;

use super::ConfigError;
use super::keys::Keys;

/// What a family does with the keys on windows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Windowing {
    /// Window where the key is absent; an explicit null means none.
    pub(crate) unsaid: Option<usize>,
    /// Window of the layers chosen by [`Self::is_sliding`] where the file names none.
    pub(crate) fallback: Option<usize>,
    /// Whether windows must be switched on by `use_sliding_window`.
    pub(crate) opt_in: bool,
    /// Whether a layer slides, where `layer_types` does not say.
    pub(crate) is_sliding: fn(&WindowKeys, usize) -> bool,
}

impl Windowing {
    /// No layer slides.
    pub(crate) const NONE: Self = Self { unsaid: None, fallback: None, opt_in: false, is_sliding: |_, _| false };
}

/// Keys of config.json that say which layers slide.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WindowKeys {
    /// `use_sliding_window`.
    pub(crate) enabled: bool,
    /// `sliding_window_pattern`: every so manieth layer sees everything.
    pub(crate) pattern: Option<usize>,
    /// `max_window_layers`: the first layer that may slide.
    pub(crate) first_windowed: usize,
}

/// The window of every layer; `None` where it sees everything.
pub(super) fn read(keys: &mut Keys<'_>, windowing: Windowing, count: usize) -> Result<Vec<Option<usize>>, ConfigError> {
    let unsaid = windowing.unsaid.filter(|_| !keys.has("sliding_window"));
    let window = keys.optional_size("sliding_window")?.or(unsaid);
    let own = WindowKeys {
        enabled: keys.flag("use_sliding_window", !windowing.opt_in)?,
        pattern: keys.optional_size("sliding_window_pattern")?,
        first_windowed: keys.optional_size("max_window_layers")?.unwrap_or(28),
    };
    if let Some(types) = keys.take("layer_types") {
        return layer_types(keys, &types, window.filter(|_| own.enabled), count);
    }
    let window = window.or(windowing.fallback);
    Ok((0..count).map(|layer| window.filter(|_| (windowing.is_sliding)(&own, layer))).collect())
}

/// The same where the file names the kind of every layer.
fn layer_types(
    keys: &Keys<'_>,
    types: &Value,
    window: Option<usize>,
    count: usize,
) -> Result<Vec<Option<usize>>, ConfigError> {
    let list = types.as_array().filter(|list| list.len() == count);
    let list = list.ok_or_else(|| keys.wrong("layer_types", format!("expected a list of {count} names")))?;
    list.iter()
        .map(|name| match name.as_str() {
            Some("full_attention") => Ok(None),
            Some("sliding_attention") => match window {
                Some(window) => Ok(Some(window)),
                None => Err(keys.wrong("layer_types", "names sliding_attention, but sliding_window is not set")),
            },
            _ => Err(keys.unsupported("layer_types", name)),
        })
        .collect()
}
