//! What the numbers of a changed weight say. [`crate::weights`] measures them, without a forward pass.

use super::coherence;
use super::descriptor::Transformation::FactorRewriting;
use super::descriptor::{Entry, Metric, Number, Reads, Runs, Transformation, Unit};

/// `weights`, and the coherence of modules.
pub static METRIC: Metric = Metric {
    name: "weights",
    runs: Runs::ByDefault,
    reads: Reads::Weights,
    entries: &[
        SIZE,
        COSINE,
        RANKS,
        KURTOSIS,
        ROW_SHARE,
        ROWS,
        ENTRY_CHANGE,
        OVERLAP,
        INTRUDERS,
        MERGE,
        coherence::ENTRY,
    ],
    references: &[
        coherence::REFERENCE,
        "Hu et al. 2021. LoRA: Low-rank adaptation of large language models. arXiv:2106.09685.",
        "Liu, Wang, Yin, Molchanov, Wang, Cheng, Chen 2024. DoRA: Weight-decomposed low-rank adaptation. ICML.",
        "Rudelson, Vershynin 2007. Sampling from large matrices: An approach through geometric functional analysis. \
         Journal of the ACM 54.",
        "Shuttleworth, Andreas, Torralba, Sharma 2024. LoRA vs full fine-tuning: An illusion of equivalence. \
         arXiv:2410.21228.",
    ],
};

/// All of them are functions of ΔW alone.
const FACTORS: &[Transformation] = &[FactorRewriting];

const SIZE: Entry = Entry {
    heading: "`relative_norm`, `spectral_ratio`",
    definition: "‖ΔW‖/‖W‖ and σ₁(ΔW)/σ₁(W).",
    trap: "
Trap: σ₁(W) of a trained matrix often belongs to one outlier direction, which makes `spectral_ratio` look harmless. A
small norm in the right direction can matter more than a large one in no direction: these say how much, never what.",
    numbers: &[
        Number::new("relative_norm", "‖ΔW‖_F/‖W‖_F; `null` where W is zero.", Unit::Ratio, "0 to ∞")
            .more_change(0.0)
            .blind_to(FACTORS),
        Number::new("spectral_ratio", "σ₁(ΔW)/σ₁(W); `null` where W is zero.", Unit::Ratio, "0 to ∞")
            .more_change(0.0)
            .blind_to(FACTORS),
    ],
    ..Entry::EMPTY
};

const COSINE: Entry = Entry {
    heading: "`cosine`, `one_minus_cosine`",
    definition: "
Cosine of W and W' laid out as vectors; the second is (‖W‖²‖ΔW‖² − ⟨W, ΔW⟩²)/(‖W‖‖W'‖(‖W‖‖W'‖ + ⟨W, W'⟩)), free of
cancellation.",
    blind_to: "
Blind to scaling W' by one factor. It is the \"weight cosine\" that says 1.0000 for adapters that change everything the
model says: with ΔW orthogonal to W, 1 − cos ≈ ½‖ΔW‖²/‖W‖², the square of a small number.",
    numbers: &[
        Number::new(
            "cosine",
            "Cosine of W and W' flattened: the \"weight cosine\" that says 1.0000.",
            Unit::Cosine,
            "−1 to 1",
        )
        .less_change(1.0)
        .blind_to(FACTORS),
        Number::new("one_minus_cosine", "1 − `cosine`, computed without the cancellation.", Unit::Cosine, "0 to 2")
            .more_change(0.0)
            .blind_to(FACTORS),
    ],
    ..Entry::EMPTY
};

const RANKS: Entry = Entry {
    heading: "`rank`, `stable_rank`, `rankme`, `effective_rank`, `top1_share`",
    definition: "
Of ΔW. `stable_rank`: Rudelson and Vershynin 2007. The first four are 0 or `null` for no change.",
    blind_to: "Blind to the size of ΔW.",
    trap: "
Trap: for DoRA and whole tensors ΔW has full rank as soon as rows are rescaled, whatever the rank of the factors, and
there σ come from a Gram matrix, so that values under some 10⁻⁷ σ₁ are rounding.",
    numbers: &[
        Number::new("rank", "Singular values of ΔW above 10⁻⁶ σ₁.", Unit::Count, "0 to the rank of the factors")
            .unchanged(0.0)
            .blind_to(FACTORS),
        Number::new("stable_rank", "Σσ²/σ₁² of ΔW.", Unit::Count, "1 to rank").undefined_unchanged().blind_to(FACTORS),
        Number::new("rankme", "exp H(σ/Σσ) of ΔW.", Unit::Count, "1 to rank").undefined_unchanged().blind_to(FACTORS),
        Number::new("effective_rank", "exp H(σ²/Σσ²) of ΔW.", Unit::Count, "1 to rank")
            .undefined_unchanged()
            .blind_to(FACTORS),
        Number::new("top1_share", "σ₁²/Σσ² of ΔW.", Unit::Share, "0 to 1").undefined_unchanged().blind_to(FACTORS),
        Number::new(
            "singular_values",
            "Largest singular values of ΔW, descending, at most 64.",
            Unit::Length,
            "0 to ∞",
        )
        .blind_to(FACTORS),
    ],
    ..Entry::EMPTY
};

const KURTOSIS: Entry = Entry {
    heading: "`kurtosis`",
    definition: "
Pearson kurtosis of ΔW's entries, E[(δ − δ̄)⁴]/Var². Large where a few entries hold the change.",
    trap: "
Trap: a product BA of random normal factors is not normal; at rank 1 it has kurtosis 9, falling towards 3 as 3 + 6/r.",
    numbers: &[Number::new(
        "kurtosis",
        "Pearson kurtosis of ΔW's entries (3 for a normal distribution).",
        Unit::Ratio,
        "at least 1",
    )
    .undefined_unchanged()
    .chance("3 + 6/r for random factors")
    .blind_to(FACTORS)],
    ..Entry::EMPTY
};

const ROW_SHARE: Entry = Entry {
    heading: "`row_top8_share`",
    definition: "Share of ‖ΔW‖² in its eight heaviest rows.",
    trap: "Trap: a matrix of few outputs has a high share by counting alone.",
    numbers: &[Number::new(
        "row_top8_share",
        "Share of ‖ΔW‖² in its eight heaviest rows.",
        Unit::Share,
        "8/outputs to 1",
    )
    .undefined_unchanged()
    .blind_to(FACTORS)],
    ..Entry::EMPTY
};

const ROWS: Entry = Entry {
    heading: "`row_rotation_deg.{mean,max}`, `row_norm_change.{mean_abs,max_abs,min}`",
    definition: "
Per output row, the angle between w and w' in degrees, and |‖w'‖/‖w‖ − 1| (rows of norm zero left out).
The split into direction and magnitude is DoRA's (Liu et al. 2024). The two are separate channels: an adapter with B = 0
rotates nothing, and can still silence or multiply single outputs through its magnitudes. The maximum is over thousands
of rows; the mean hides four tripled ones.",
    numbers: &[
        Number::new("row_rotation_deg.mean", "Mean over rows.", Unit::Degrees, "0 to 180")
            .more_change(0.0)
            .blind_to(FACTORS),
        Number::new("row_rotation_deg.max", "Largest of any row.", Unit::Degrees, "0 to 180")
            .more_change(0.0)
            .blind_to(FACTORS),
        Number::new("row_norm_change.mean_abs", "Mean of |‖w'‖/‖w‖ − 1|.", Unit::Ratio, "0 to ∞")
            .more_change(0.0)
            .blind_to(FACTORS),
        Number::new("row_norm_change.max_abs", "Largest |‖w'‖/‖w‖ − 1|.", Unit::Ratio, "0 to ∞")
            .more_change(0.0)
            .blind_to(FACTORS),
        Number::new(
            "row_norm_change.min",
            "Smallest ‖w'‖/‖w‖ − 1, with its sign: −1 is a row that is gone.",
            Unit::Ratio,
            "−1 to ∞",
        )
        .unchanged(0.0)
        .blind_to(FACTORS),
    ],
    glossary: &[(
        "row norm, least",
        "Smallest ‖w'‖/‖w‖ − 1 over the rows of a weight, with its sign: −1 is a row (an output channel) that is gone.",
    )],
    ..Entry::EMPTY
};

const ENTRY_CHANGE: Entry = Entry {
    heading: "`entry_change`",
    definition: "
Of a bias or a norm's weights only: what a single entry does against what it is added to or multiplies.",
    numbers: &[Number::new(
        "entry_change",
        "Of a bias or a norm's weights: the largest change of one entry over the typical size of what it joins, \
         ‖W‖_F/√n of its module's weight W with n outputs, which of a norm is the vector itself; `null` of matrices.",
        Unit::Ratio,
        "0 to ∞",
    )
    .more_change(0.0)
    .blind_to(FACTORS)],
    ..Entry::EMPTY
};

const OVERLAP: Entry = Entry {
    heading: "`output_overlap`",
    definition: "
‖U₁₀(W)ᵀ U(ΔW)‖²/rank: how much of what ΔW writes lies in the ten leading left singular directions of W.",
    blind_to: "Blind to the size of ΔW and to its inputs.",
    trap: "
Where ΔW has as many directions as there are outputs it is 10/outputs by construction and says nothing; where W has no \
        gap
after its tenth value, little.",
    numbers: &[Number::new(
        "output_overlap",
        "‖U₁₀(W)ᵀ U(ΔW)‖_F²/rank: does the change write where W already writes?",
        Unit::Share,
        "0 to 1",
    )
    .undefined_unchanged()
    .chance("about 10/outputs at low rank")
    .blind_to(FACTORS)],
    ..Entry::EMPTY
};

const INTRUDERS: Entry = Entry {
    heading: "`intruder_dimensions`, `intruder_chance_cosine`",
    definition: "
Of the ten leading left singular vectors of W', how many have |cos| < 0.5 with *every* left singular vector of W
(Shuttleworth, Andreas, Torralba and Sharma 2024); `null` for vectors. Beside it √(2 ln n/d), about the largest |cos| \
        that
one of n random directions in d dimensions reaches: where that nears 0.5 (small models) hardly anything can be an \
        intruder,
and a count of 0 is no comfort.",
    trap: "
Trap: singular vectors of close singular values mix freely. A W without gaps can lose them to a harmless change.",
    numbers: &[
        Number::new(
            "intruder_dimensions",
            "Of the ten leading left singular vectors of W', how many have |cos| < 0.5 with every one of W's.",
            Unit::Count,
            "0 to 10",
        )
        .more_change(0.0)
        .blind_to(FACTORS),
        Number::new(
            "intruder_chance_cosine",
            "√(2 ln n/d): the largest |cos| that n random directions of d dimensions reach.",
            Unit::Cosine,
            "0 to 1",
        )
        .blind_to(FACTORS),
    ],
    glossary: &[(
        "intruders",
        "Of the ten leading output directions of the adapted weight, those that resemble none of the base's (|cos| \
         under 0.5). An unchanged weight has none; random directions reach the |cos| printed as chance.",
    )],
    ..Entry::EMPTY
};

const MERGE: Entry = Entry {
    heading: "`merge_survival.{cosine,changed_share}`",
    definition: "
What a merge into bf16 leaves: cosine of bf16(W') − bf16(W) with ΔW, and the share of entries that change at all. A
negative cosine is possible and means that nothing survived.
Small adapters vanish. For a random normal W and a ΔW of rank 8 with relative norm 10⁻², 10⁻³ and 10⁻⁴, 82 %, 31 % and 6
% of entries change, and the cosine is 0.97, 0.53 and 0.17.",
    trap: "
Trap: it is about one merge of one adapter, round to nearest, into bf16, whatever the base is stored in. A base stored
in f32 or f16 and merged there loses far less.",
    numbers: &[
        Number::new(
            "merge_survival.cosine",
            "Cosine of bf16(W') − bf16(W) with ΔW; `null` where nothing changed.",
            Unit::Cosine,
            "0 to 1",
        )
        .undefined_unchanged()
        .blind_to(FACTORS),
        Number::new("merge_survival.changed_share", "Share of entries that change at all.", Unit::Share, "0 to 1")
            .unchanged(0.0)
            .blind_to(FACTORS),
    ],
    glossary: &[(
        "merged",
        "What bf16 keeps of the change: the share of entries that change at all, and the cosine of what changed with \
         what was trained.",
    )],
    ..Entry::EMPTY
};
