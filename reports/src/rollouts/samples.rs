//! Rollouts of a run that never took place: word problems, strange characters, and text that attacks the page.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;

use lcr_documents::rollout::{Leak, RolloutRecord, Segment, SegmentTag, Source, TokenCounts};

/// Text that must come out of the page as text.
pub(super) const HOSTILE: [&str; 6] = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=\"alert('2')\">",
    "</style><style>*{display:none}</style><!--",
    "{{ 7 * 7 }} {% raw %} & &amp; &lt;b&gt;",
    "left\u{202e}thgir\u{2066} \u{0}\u{1b}[31m \u{200b}end",
    "🤖🧮 Ünïcödé 漢字 العربية \u{301}é ¼ ∑ «x»",
];

/// Problem, thinking in sentences, answer.
const PROBLEMS: [(&str, &str, &[&str], &str); 4] = [
    (
        "shopping",
        "Nadia buys 7 notebooks at 4 dollars each and pays with a 50 dollar bill. How much change does she get?",
        &[
            "Nadia buys 7 notebooks, and each costs 4 dollars.",
            " So the notebooks cost 7 × 4 = 28 dollars.\n",
            "She pays with 50 dollars.",
            " The change is what is left after paying, 50 − 28.",
            " That is 22 dollars.\n\n",
            "Check: 28 + 22 = 50, as it should be.",
        ],
        "22",
    ),
    (
        "rates",
        "A pump fills 3/8 of a tank in 45 minutes. At the same rate, how many minutes does it need for the whole tank?",
        &[
            "In 45 minutes the pump fills 3/8 of the tank.\n",
            "One eighth therefore takes 45 / 3 = 15 minutes.",
            " A whole tank has 8 eighths.",
            " So the whole takes 8 × 15 = 120 minutes.\n",
            "Another way: 45 · 8/3 = 120.",
        ],
        "120",
    ),
    (
        "ages",
        "Tom is three times as old as his sister. In 6 years he will be twice as old as she will be. How old is Tom \
         now?",
        &[
            "Let s be the sister's age, so Tom is 3s.\n",
            "In 6 years they are s + 6 and 3s + 6.",
            " Then 3s + 6 = 2(s + 6) = 2s + 12.",
            " Subtracting gives s = 6.\n",
            "Tom is 3 · 6 = 18.",
        ],
        "18",
    ),
    (
        "geometry",
        "A rectangle's length is 5 cm more than its width, and its perimeter is 58 cm. What is its area in square \
         centimetres?",
        &[
            "Let w be the width; the length is w + 5.\n",
            "The perimeter is 2(w + w + 5) = 4w + 10 = 58,",
            " so 4w = 48 and w = 12.",
            " The length is 17.\n",
            "Area: 12 × 17 = 204 square centimetres.",
        ],
        "204",
    ),
];

/// Anything that a model might say on its own.
const MUSINGS: [&str; 7] = [
    " Let me write down what is given and what is asked for before I compute anything.",
    " Wait, I should double-check that step, because the numbers look a little off to me.",
    "\nSo the next thing to find is the unit price, and from that the total follows.",
    " Hmm, if I divide first I get a fraction; multiplying first keeps the numbers whole.",
    " Okay. That gives a total that I can compare with the amount in the question.",
    "\n\nAlternatively, one could set up an equation: let x be the unknown quantity.",
    " Therefore the result must be smaller than the amount we started with, which is a good sign.",
];

/// Splits text as a tokenizer would: words with the space before them.
fn pieces(text: &str) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    for character in text.chars() {
        match pieces.last_mut() {
            Some(last) if !character.is_whitespace() && last.chars().count() < 8 => last.push(character),
            _ => pieces.push(character.to_string()),
        }
    }
    pieces
}

/// A segment that the model did not write.
pub(super) fn injected(tag: SegmentTag, text: &str) -> Segment {
    Segment {
        tag,
        source: Source::Injected,
        text: text.to_owned(),
        token_count: pieces(text).len(),
        masked: true,
        pieces: Vec::new(),
        weights: Vec::new(),
    }
}

/// Thinking of the model with weights that decay as the spec says; `scale` is their first.
pub(super) fn written(tag: SegmentTag, text: &str, scale: f32) -> Segment {
    let pieces = pieces(text);
    let decay = if tag == SegmentTag::Answer { 1.0_f32 } else { 0.85 };
    let weight = |distance: usize| scale * decay.powi(distance as i32);
    let weights = (0..pieces.len()).map(weight).map(|weight| if weight < 0.1 { 0.0 } else { weight }).collect();
    Segment {
        tag,
        source: Source::Model,
        text: text.to_owned(),
        token_count: pieces.len(),
        masked: false,
        pieces,
        weights,
    }
}

/// One rollout of the problem that the iteration's turn it is.
fn rollout(iteration: u64, view: &str, correct: bool, random: &mut ChaCha12Rng) -> RolloutRecord {
    let (kind, problem, thinking, answer) = PROBLEMS[iteration as usize % PROBLEMS.len()];
    let naked = view == "naked";
    let mut segments = vec![injected(
        SegmentTag::Prompt,
        &format!(
            "<|im_start|>user\nShow each step on its own line.\nUse plain \
             numbers.\n\n{problem}<|im_end|>\n<|im_start|>assistant\n<think>\n"
        ),
    )];
    let muse = |random: &mut ChaCha12Rng| MUSINGS[random.random_range(0..MUSINGS.len())];
    let forced_close = random.random_bool(0.3);
    if naked {
        let said: String = (0..8).map(|_| muse(random)).collect();
        segments.push(written(SegmentTag::Model, &said, 3.5));
    }
    for (index, sentence) in thinking.iter().enumerate().filter(|_| !naked) {
        if index % 2 == 0 {
            segments.push(injected(SegmentTag::Expert, sentence));
        } else {
            let said = format!("{}{}", muse(random), muse(random));
            segments.push(written(SegmentTag::Model, &said, random.random_range(1.2..3.5)));
        }
    }
    if forced_close {
        segments.push(injected(SegmentTag::Tail, thinking[thinking.len() - 1]));
    }
    segments.push(Segment {
        source: if forced_close { Source::Injected } else { Source::Model },
        ..injected(SegmentTag::Close, "\n</think>\n\n")
    });
    segments.push(injected(SegmentTag::Opener, "The answer is \\boxed{"));
    let said = if correct { answer.to_owned() } else { random.random_range(3..400).to_string() };
    segments.push(written(SegmentTag::Answer, &format!("{said}}}"), 1.0));
    let tokens = |tags: &[SegmentTag]| {
        segments.iter().filter(|part| tags.contains(&part.tag)).map(|part| part.token_count).sum()
    };
    let token_counts = TokenCounts {
        prompt: tokens(&[SegmentTag::Prompt]),
        expert: tokens(&[SegmentTag::Expert]),
        model: tokens(&[SegmentTag::Model]),
        forced: tokens(&[SegmentTag::Tail, SegmentTag::Close, SegmentTag::Opener]),
        answer: tokens(&[SegmentTag::Answer]),
    };
    RolloutRecord {
        iteration,
        sample: (iteration * 37 % 911) as usize,
        view: view.to_owned(),
        kind: kind.to_owned(),
        prompt: problem.to_owned(),
        correct,
        reward: f64::from(u8::from(correct)),
        advantage: 0.0,
        target_answer: answer.to_owned(),
        generated_answer: (correct || random.random_bool(0.8)).then_some(said),
        token_counts,
        leak: match (naked, forced_close) {
            (false, _) if random.random_bool(0.3) => Leak::Scaffold,
            (_, true) => Leak::Tail,
            _ => Leak::None,
        },
        forced_close,
        jaccard: (!naked).then(|| random.random_range(0.05..0.6)),
        expert_share: if naked { 0.0 } else { 0.35 },
        injected_share: if naked { 0.0 } else { 0.3 },
        boundaries: if naked { Vec::new() } else { vec![20, 55] },
        model_chunks: 2,
        segments,
    }
}

/// A group of a naked and, where that is wrong, two scaffolded rollouts, with its advantages.
pub(super) fn group(iteration: u64, naked_rate: f64, random: &mut ChaCha12Rng) -> Vec<RolloutRecord> {
    let mut members = vec![rollout(iteration, "naked", random.random_bool(naked_rate), random)];
    if members[0].correct {
        return members;
    }
    for view in 0..2 {
        let correct = random.random_bool(0.55);
        members.push(rollout(iteration, &format!("scaffold_{view}"), correct, random));
    }
    let mean = members.iter().map(|member| member.reward).sum::<f64>() / members.len() as f64;
    let variance = members.iter().map(|member| (member.reward - mean).powi(2)).sum::<f64>() / members.len() as f64;
    for member in &mut members {
        member.advantage = (member.reward - mean) / (variance.sqrt() + 1e-4);
    }
    members
}

/// A whole run whose naked accuracy grows from a fifth to three fifths.
pub(super) fn run(groups: u64) -> Vec<RolloutRecord> {
    let mut random = ChaCha12Rng::seed_from_u64(20);
    (0..groups).flat_map(|index| group(index, 0.2 + 0.4 * index as f64 / groups as f64, &mut random)).collect()
}

/// As lines of `rollouts.jsonl`.
pub(super) fn lines(records: &[RolloutRecord]) -> String {
    records.iter().map(|record| serde_json::to_string(record).unwrap() + "\n").collect()
}

/// A group in which every text is hostile, and one of them endless.
pub(super) fn hostile(iteration: u64) -> Vec<RolloutRecord> {
    let mut random = ChaCha12Rng::seed_from_u64(4);
    let mut members = group(iteration, 0.0, &mut random);
    let all = HOSTILE.join("\n");
    for member in &mut members {
        member.kind = HOSTILE[0].to_owned();
        member.prompt = all.clone();
        member.target_answer = HOSTILE[1].to_owned();
        member.generated_answer = Some(HOSTILE[2].to_owned());
        member.segments = vec![
            injected(SegmentTag::Prompt, &all),
            injected(SegmentTag::Expert, &all),
            written(SegmentTag::Model, &all, 3.5),
            injected(SegmentTag::Expert, &"9".repeat(3_000)),
            written(SegmentTag::Answer, HOSTILE[1], 1.0),
        ];
    }
    members[1].view = HOSTILE[3].to_owned();
    members
}
