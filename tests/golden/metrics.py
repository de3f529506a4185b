"""The audit's metrics by float64 numpy and LAPACK, each written as its definition in `docs/metrics.md` reads.

X, Y are [tokens, width], the same tokens' states in the base and in the adapted model; Δ = Y − X; X_c is X less its
mean row. W, W' are [outputs, inputs]; ΔW = W' − W. s and σ are singular values, descending. An undefined number is
None.
"""

from collections.abc import Callable, Iterable
from itertools import combinations

import numpy as np
from numpy.linalg import norm, svd

Array = np.ndarray
Entry = dict[str, object]

NEIGHBOURS = 10
SUBSPACE = 10
LEADING = 10
HEAVY_ROWS = 8
INTRUDER_COSINE = 0.5
RANK_TOLERANCE = 1e-6
LAW_FROM, LAW_TO, LAW_POINTS = 11, 100, 5

WRITERS = ("o_proj", "down_proj")
READERS = ("q_proj", "k_proj", "v_proj", "qkv_proj", "gate_proj", "up_proj", "gate_up_proj")
"""Last names of modules, as most families call them. GPT-2's are none of these: its coherence is not computed here."""


def centred(values: Array) -> Array:
    """X − x̄."""
    return values - values.mean(axis=0)


def unit_rows(values: Array) -> Array:
    """Each row over its norm."""
    return values / norm(values, axis=1, keepdims=True)


def shares(values: Array) -> Array:
    """Values over their sum."""
    return values / values.sum()


def entropy(shares: Array) -> Array:
    """H(p) = −Σ p ln p along the last axis, nats."""
    return -np.sum(shares * np.log(np.where(shares > 0.0, shares, 1.0)), axis=-1)


def jensen_shannon(left: Array, right: Array) -> Array:
    """½ KL(P‖M) + ½ KL(Q‖M) with M = (P + Q)/2, along the last axis, nats."""
    middle = (left + right) / 2.0

    def half(part: Array) -> Array:
        ratio = np.divide(part, middle, out=np.ones_like(part), where=part > 0.0)
        return 0.5 * np.sum(part * np.log(ratio), axis=-1)

    return half(left) + half(right)


# Activations


def cosines(x: Array, y: Array) -> Array:
    """cos(x_t, y_t) of each token."""
    return np.sum(x * y, axis=1) / (norm(x, axis=1) * norm(y, axis=1))


def cka(x: Array, y: Array) -> float:
    """‖Y_cᵀX_c‖²/(‖X_cᵀX_c‖ ‖Y_cᵀY_c‖)."""
    x, y = centred(x), centred(y)
    return float(norm(y.T @ x) ** 2 / (norm(x.T @ x) * norm(y.T @ y)))


def unbiased_hsic(k: Array, l: Array) -> float:
    """[⟨K, L⟩ + (1ᵀK1)(1ᵀL1)/((n−1)(n−2)) − 2/(n−2)·1ᵀKL1]/(n(n−3)) of Grams with zero diagonals (Song et al. 2012)."""
    n = len(k)
    total = np.sum(k * l) + k.sum() * l.sum() / ((n - 1) * (n - 2)) - 2.0 / (n - 2) * np.sum(k @ l)
    return float(total / (n * (n - 3)))


def cka_debiased(x: Array, y: Array) -> float | None:
    """HSIC(K, L)/√(HSIC(K, K)·HSIC(L, L)) with K = XXᵀ and L = YYᵀ less their diagonals."""
    k, l = x @ x.T, y @ y.T
    np.fill_diagonal(k, 0.0)
    np.fill_diagonal(l, 0.0)
    own = unbiased_hsic(k, k), unbiased_hsic(l, l)
    return unbiased_hsic(k, l) / float(np.sqrt(own[0] * own[1])) if min(own) > 0.0 else None


def procrustes(x: Array, y: Array) -> Entry:
    """raw = ‖A − B‖², residual = min_R ‖A − BR‖² = 2 − 2‖AᵀB‖_*, A = X_c/‖X_c‖, B = Y_c/‖Y_c‖."""
    a, b = centred(x), centred(y)
    a, b = a / norm(a), b / norm(b)
    raw = float(norm(a - b) ** 2)
    if raw == 0.0:
        return {"raw_squared": 0.0, "residual_squared": 0.0, "explained": None}
    residual = max(0.0, 2.0 - 2.0 * float(svd(a.T @ b, compute_uv=False).sum()))
    return {"raw_squared": raw, "residual_squared": residual, "explained": 1.0 - residual / raw}


def neighbours(values: Array) -> Array:
    """Indices of each row's ten nearest others by cosine, [tokens, 10]; of equally near ones the first."""
    unit = unit_rows(values)
    near = unit @ unit.T
    np.fill_diagonal(near, -np.inf)
    return np.argsort(-near, axis=1, kind="stable")[:, :NEIGHBOURS]


def knn_overlap(x: Array, y: Array) -> float:
    """Mean over tokens of |N(x_t) ∩ N(y_t)|/10."""
    kept = [len(set(left) & set(right)) for left, right in zip(neighbours(x), neighbours(y), strict=True)]
    return float(np.mean(kept)) / NEIGHBOURS


def subspace(x: Array, y: Array) -> Entry:
    """‖VᵀW‖²/k and the largest principal angle of the k leading right singular vectors V of X_c and W of Y_c.

    The angle is atan2 of the largest singular value of (1 − VVᵀ)W and the smallest of VᵀW: its sine and its cosine.
    """
    k = min(SUBSPACE, *x.shape)
    v, w = svd(centred(x))[2][:k].T, svd(centred(y))[2][:k].T
    inner = v.T @ w
    sine = svd(w - v @ inner, compute_uv=False)[0]
    cosine = svd(inner, compute_uv=False)[-1]
    angle = float(np.degrees(np.arctan2(sine, cosine)))
    return {"k": k, "overlap": float(norm(inner) ** 2 / k), "max_angle_deg": angle}


def power_law(squares: Array) -> float | None:
    """−slope of ln λ_i on ln i, weights 1/i, i = 11 … min(100, rank); None under five points."""
    rank = int(np.sum(np.sqrt(squares) > RANK_TOLERANCE * np.sqrt(squares[0])))
    index = np.arange(LAW_FROM, min(LAW_TO, rank) + 1)
    if len(index) < LAW_POINTS:
        return None
    # numpy.polyfit squares its weights.
    slope = np.polyfit(np.log(index), np.log(squares[index - 1]), 1, w=np.sqrt(1.0 / index))[0]
    return -float(slope)


def spectrum(values: Array) -> tuple[Entry, Array]:
    """Effective dimensions of X_c, and its λ/Σλ; s are singular values, λ = s²."""
    s = svd(centred(values), compute_uv=False)
    squares = s**2
    entry = {
        "rankme": float(np.exp(entropy(shares(s)))),
        "effective_rank": float(np.exp(entropy(shares(squares)))),
        "participation_ratio": float(squares.sum() ** 2 / np.sum(squares**2)),
        "stable_rank": float(squares.sum() / squares[0]),
        "alpha_req": power_law(squares),
    }
    return entry, shares(squares)


def spectra(x: Array, y: Array) -> Entry:
    """Both models' spectra, and the Jensen–Shannon divergence of λ/Σλ."""
    (base, left), (adapted, right) = spectrum(x), spectrum(y)
    return {"base": base, "adapted": adapted, "js": float(jensen_shannon(left, right))}


def drift(x: Array, y: Array) -> Entry:
    """mean‖Δ_t‖/mean‖x_t‖, ‖mean Δ_t‖/mean‖Δ_t‖, and σ₁²/Σσ² of Δ, uncentred."""
    change = y - x
    size = norm(change, axis=1).mean()
    squares = svd(change, compute_uv=False) ** 2
    return {
        "size": float(size / norm(x, axis=1).mean()),
        "coherence": float(norm(change.mean(axis=0)) / size),
        "pc1_share": float(squares[0] / squares.sum()),
    }


def site(x: Array, y: Array) -> Entry:
    """Everything about one site. `drift` only where something moved."""
    tokens = cosines(x, y)
    entry: Entry = {
        "relative_change": float(norm(y - x) / norm(x)),
        "cosine": {
            "mean": float(tokens.mean()),
            "median": float(np.median(tokens)),
            "p05": float(np.percentile(tokens, 5.0)),
            "min": float(tokens.min()),
        },
        "cosine_flat": float(np.sum(x * y) / (norm(x) * norm(y))),
        "cosine_centered": float(cosines(centred(x), centred(y)).mean()),
        "cka": cka(x, y),
        "cka_debiased": cka_debiased(x, y),
        "procrustes": procrustes(x, y),
        "knn_overlap": knn_overlap(x, y),
        "subspace": subspace(x, y),
        "spectrum": spectra(x, y),
    }
    return entry | ({"drift": drift(x, y)} if np.any(x != y) else {})


# Next-token distributions


def log_softmax(logits: Array) -> Array:
    """ln P along the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def tokens(base: Array, adapted: Array) -> Entry:
    """Of logits [positions, vocabulary]: KL(P‖Q) = Σ P ln(P/Q) in nats, and the figures beside it."""
    log_p, log_q = log_softmax(base), log_softmax(adapted)
    p, q = np.exp(log_p), np.exp(log_q)
    divergence = np.sum(p * (log_p - log_q), axis=-1)
    return {
        "kl": {
            "mean": float(divergence.mean()),
            "p95": float(np.percentile(divergence, 95.0)),
            "max": float(divergence.max()),
        },
        "js_mean": float(jensen_shannon(p, q).mean()),
        "top1_flip_rate": float(np.mean(base.argmax(axis=-1) != adapted.argmax(axis=-1))),
        "entropy": {"base": float(entropy(p).mean()), "adapted": float(entropy(q).mean())},
    }


# Weights


def row_rotation(w: Array, changed: Array) -> Entry:
    """2·atan2(‖u − v‖, ‖u + v‖) of the unit vectors u, v of each row of W and W', degrees."""
    u, v = unit_rows(w), unit_rows(changed)
    angles = np.degrees(2.0 * np.arctan2(norm(u - v, axis=1), norm(u + v, axis=1)))
    return {"mean": float(angles.mean()), "max": float(angles.max())}


def row_norm_change(w: Array, changed: Array) -> Entry:
    """|‖w'‖/‖w‖ − 1| of rows."""
    sizes = np.abs(norm(changed, axis=1) / norm(w, axis=1) - 1.0)
    return {"mean_abs": float(sizes.mean()), "max_abs": float(sizes.max())}


def intruder_dimensions(left_of_w: Array, left_of_changed: Array) -> int:
    """How many of the ten leading left singular vectors of W' have |cos| < 0.5 with every one of W's."""
    nearest = np.abs(left_of_w.T @ left_of_changed[:, :LEADING]).max(axis=0)
    return int(np.sum(nearest < INTRUDER_COSINE))


def weight(w: Array, changed: Array) -> Entry:
    """Everything about one tensor, [outputs, inputs]."""
    change = changed - w
    left_of_w, s_of_w, _ = svd(w, full_matrices=False)
    left, s, _ = svd(change, full_matrices=False)
    rank = int(np.sum(s > RANK_TOLERANCE * s[0]))
    squares, rows = s**2, np.sum(change**2, axis=1)
    deviations = change - change.mean()
    return {
        "relative_norm": float(norm(change) / norm(w)),
        "spectral_ratio": float(s[0] / s_of_w[0]),
        "cosine": float(np.sum(w * changed) / (norm(w) * norm(changed))),
        "rank": rank,
        "stable_rank": float(squares.sum() / squares[0]),
        "rankme": float(np.exp(entropy(shares(s)))),
        "effective_rank": float(np.exp(entropy(shares(squares)))),
        "top1_share": float(squares[0] / squares.sum()),
        "kurtosis": float(np.mean(deviations**4) / np.mean(deviations**2) ** 2),
        "row_top8_share": float(np.sort(rows)[-HEAVY_ROWS:].sum() / rows.sum()),
        "row_rotation_deg": row_rotation(w, changed),
        "row_norm_change": row_norm_change(w, changed),
        "output_overlap": float(norm(left_of_w[:, :LEADING].T @ left[:, :rank]) ** 2 / rank),
        "intruder_dimensions": intruder_dimensions(left_of_w, svd(changed, full_matrices=False)[0]),
    }


def mean_absolute_cosine(vectors: Iterable[Array]) -> float | None:
    """Mean |u·v| over pairs of unit vectors; None under two."""
    pairs = [abs(float(u @ v)) for u, v in combinations(vectors, 2)]
    return float(np.mean(pairs)) if pairs else None


def coherence(changes: dict[str, Array]) -> Entry:
    """Of the leading left singular vectors of ΔW of all writers into the stream, and right ones of all its readers."""
    leading = {name: svd(change, full_matrices=False) for name, change in changes.items()}

    def of(modules: tuple[str, ...], side: Callable[[tuple[Array, Array, Array]], Array]) -> float | None:
        return mean_absolute_cosine(side(found) for name, found in leading.items() if name.split(".")[-2] in modules)

    return {"write": of(WRITERS, lambda found: found[0][:, 0]), "read": of(READERS, lambda found: found[2][0])}
