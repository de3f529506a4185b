//! How a rollout is spelled: the prompt up to the opening of the thinking, the tags, the opener of the answer's box.
//!
//! Everything here is injected text. It is encoded piece by piece, as the rollout is put together, so that what the
//! model reads in training is token for token what it reads when it is deployed.

use std::collections::HashSet;
use std::sync::Arc;

use lcr_formats::chat_template::ChatMessage;
use lcr_model::tokenizer::{Tokenizer, TokenizerError};
use serde::{Deserialize, Serialize};

use crate::step::scaffold::{Target, line_tokens};
use crate::tasks::dataset::Problem;

/// The spelling of thinking and answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FormatOptions {
    /// Opens the thinking; added to the prompt where the chat template has not done so.
    pub open: String,
    /// Closes the thinking.
    pub close: String,
    /// Follows the close tag and opens the answer's box.
    pub opener: String,
}

impl Default for FormatOptions {
    fn default() -> Self {
        Self { open: "<think>\n".to_owned(), close: "</think>".to_owned(), opener: "\n\n\\boxed{".to_owned() }
    }
}

/// The spelling in one tokenizer's ids.
#[derive(Debug)]
pub struct Format<'a> {
    tokenizer: &'a Tokenizer,
    options: FormatOptions,
    close: Vec<u32>,
    opener: Vec<u32>,
    stops: Vec<u32>,
    line_tokens: Arc<HashSet<u32>>,
    /// Positions of the model: of a text that goes on beyond them, not all is encoded.
    positions: usize,
}

impl<'a> Format<'a> {
    /// Encodes the tags; `stops` end a generation beside the tokenizer's own.
    pub fn new(tokenizer: &'a Tokenizer, options: &FormatOptions, stops: &[u32]) -> Result<Self, TokenizerError> {
        let close = tokenizer.encode(&options.close, false)?;
        let opener = tokenizer.encode(&options.opener, false)?;
        let stops = tokenizer.stop_tokens().iter().chain(stops).copied().collect();
        let line_tokens = Arc::new(line_tokens(tokenizer.vocab_size(), |token| tokenizer.token_text(token)));
        Ok(Self { tokenizer, options: options.clone(), close, opener, stops, line_tokens, positions: usize::MAX })
    }

    /// The same for a model with so many positions, whose prompts beyond them are encoded no further than it takes to
    /// refuse them.
    #[must_use]
    pub fn within(self, positions: usize) -> Self {
        Self { positions, ..self }
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &'a Tokenizer {
        self.tokenizer
    }

    /// Ids of the close tag.
    pub fn close(&self) -> &[u32] {
        &self.close
    }

    /// Ids of what opens the box.
    pub fn opener(&self) -> &[u32] {
        &self.opener
    }

    /// Whether a token ends a generation.
    pub fn stops(&self, token: u32) -> bool {
        self.stops.contains(&token)
    }

    /// Whether these tokens, the latest thinking of the model, end with the close tag.
    pub fn closes(&self, written: &[u32]) -> Result<bool, TokenizerError> {
        if written.ends_with(&self.close) {
            return Ok(true);
        }
        if self.close.len() == 1 {
            return Ok(false);
        }
        // A tag of several tokens may have been written with other cuts.
        let last = written.len().saturating_sub(2 * self.options.close.len());
        Ok(self.tokenizer.decode(&written[last..])?.contains(&self.options.close))
    }

    /// Ids of the prompt up to where the thinking begins, `system` being what the anchors made of the sample's own.
    pub fn prompt(&self, system: Option<&str>, prompt: &str) -> Result<Vec<u32>, TokenizerError> {
        let mut text = if self.tokenizer.has_chat_template() {
            let mut messages = Vec::with_capacity(2);
            if let Some(system) = system {
                messages.push(ChatMessage { role: "system".to_owned(), content: system.to_owned() });
            }
            messages.push(ChatMessage::user(prompt));
            self.tokenizer.render_chat(&messages, true)?
        } else {
            system.map_or_else(|| format!("{prompt}\n"), |system| format!("{system}\n{prompt}\n"))
        };
        if !text.trim_end().ends_with(self.options.open.trim_end()) {
            text.push_str(&self.options.open);
        }
        self.tokenizer.encode_start(&text, !self.tokenizer.has_chat_template(), self.positions)
    }

    /// Whether the expert's thinking has more tokens than the model could read with all of its positions.
    pub fn is_beyond_positions(&self, problem: &Problem) -> Result<bool, TokenizerError> {
        // A token has a byte at least.
        if problem.thinking.len() <= self.positions {
            return Ok(false);
        }
        Ok(self.tokenizer.encode_start(&problem.thinking, false, self.positions)?.len() > self.positions)
    }

    /// The expert's thinking with the places where it may be cut.
    pub fn target(&self, problem: &Problem) -> Result<Target, TokenizerError> {
        let mut thinking = problem.thinking.clone();
        if !thinking.ends_with('\n') {
            thinking.push('\n');
        }
        let tokens = self.tokenizer.encode(&thinking, false)?;
        let target = Target::new(tokens, |token| self.tokenizer.token_text(token));
        Ok(target.with_line_tokens(Arc::clone(&self.line_tokens)))
    }

    /// What follows the thinking in a supervised trace: close tag, box, answer and the end of the turn.
    pub fn supervised_ending(&self, problem: &Problem) -> Result<Vec<u32>, TokenizerError> {
        let mut tokens = self.close.clone();
        tokens.extend(&self.opener);
        tokens.extend(self.tokenizer.encode(&format!("{}}}", problem.ground_truth), false)?);
        tokens.extend(self.tokenizer.eos());
        Ok(tokens)
    }
}
