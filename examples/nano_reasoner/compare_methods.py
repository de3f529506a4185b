"""Trains the nano reasoner with every method and with each mechanism switched off, and says what that shows.

    cargo build --release
    python3 examples/nano_reasoner/compare_methods.py weights --out learning     how the token weights of LCR are normalised and capped
    python3 examples/nano_reasoner/compare_methods.py search --out learning      learning rate and length of each method
    python3 examples/nano_reasoner/compare_methods.py train --out learning       six seeds of each, with what the search found
    python3 examples/nano_reasoner/compare_methods.py table --out learning       the tables, from finished runs alone

`--task hard` (the default) is the task of the shipped configuration, `--task long` the one on which every mechanism acts. The first
two commands measure on a development set, the last 400 problems of `train.jsonl`, which no run trains on; the held-out problems
are seen by the final runs only. A run counts when its `run.json` says that it finished: an interrupted one publishes an
adapter, too, and is made again. Whatever is finished is not made again, so each command may be interrupted. Standard
library only.
"""

import argparse
import collections
import concurrent.futures
import json
import pathlib
import random
import shutil
import statistics
import subprocess
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
NANO = ROOT / "bundled" / "nano"
PROBLEMS = NANO / "problems"
TASKS = {
    "hard": ["--config", NANO / "train.toml", "--data", PROBLEMS / "hard.jsonl"],
    "long": ["--config", HERE / "long.toml", "--data", PROBLEMS / "long.jsonl", "--set", f"anchors.file={HERE / 'anchors.txt'}"],
}
TOKENS = {"hard": 300_000, "long": 400_000}  # read and written by a run of full length
METHODS = ["lcr", "sft", "filtered-sft", "grpo"]
MECHANISMS = ["varied-boundaries", "masking", "proximity", "jaccard", "naked-first", "early-stop", "positive-only",
              "relative", "forced-close", "answer-turn", "anchors"]
RATES = [5e-4, 1e-3, 2e-3, 4e-3]
LENGTHS = [0.5, 1.0]  # of TOKENS
WEIGHTS = [[f"credit.normalisation={normalisation}", f"credit.cap={cap}"]
           for normalisation in ["weights", "group", "{ constant = 24.0 }"] for cap in ["weight", "proximity"]]
DEVELOPMENT = 400
RESAMPLES = 2000


def call(binary, *words):
    done = subprocess.run([binary, "--threads", "1", "--quiet", *map(str, words)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, words))}: {done.stderr}")
    return done.stdout


# ------------------------------------------------------------------------------------------------ runs


def is_finished(folder):
    try:
        return json.loads((folder / "run.json").read_text())["ending"] == "finished"
    except (OSError, ValueError, KeyError):
        return False


def train(arguments, name, seed, words, length=1.0):
    """The folder of a finished run."""
    folder = arguments.out / arguments.task / f"{name.replace(' ', '_')}-{seed}"
    if not is_finished(folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        call(arguments.binary, "train", "--base", NANO, *TASKS[arguments.task], *words, "--seed", seed,
             "--tokens", int(length * TOKENS[arguments.task]), "--heldout-count", 0, "--out", folder)
        (folder / "seconds.json").write_text(json.dumps(time.monotonic() - started))
    return folder


def outcomes(arguments, folder, data, adapter=True):
    """Whether each problem of `data` was solved, naked and greedy."""
    saved = folder / f"{data.stem}.outcomes.jsonl"
    if not saved.exists():
        aside = saved.with_suffix(".part")
        target = [folder] if adapter else []
        call(arguments.binary, "eval", NANO, *target, "--data", data, "--thinking-budget", 160, "--save", aside)
        aside.rename(saved)
    return [json.loads(line)["correct"] for line in saved.read_text().splitlines()]


def development_set(arguments):
    path = arguments.out / "development.jsonl"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = (PROBLEMS / "train.jsonl").read_text().splitlines(keepends=True)
        path.write_text("".join(lines[-DEVELOPMENT:]))
    return path


def on_development(arguments, pool, tries):
    """Per try (name, words, length) the mean accuracy over the seeds of a search."""
    data = development_set(arguments)

    def measure(one):
        (name, words, length), seed = one
        return statistics.mean(outcomes(arguments, train(arguments, f"search {name}", seed, words, length), data))

    seeds = range(100, 100 + arguments.search_seeds)
    found = list(pool.map(measure, [(one, seed) for one in tries for seed in seeds]))
    means = [statistics.mean(found[at:at + len(seeds)]) for at in range(0, len(found), len(seeds))]
    for (name, _, length), mean in zip(tries, means):
        print(f"{name}, {length:g} of the tokens: {100 * mean:.1f} %", flush=True)
    return means


def weights(arguments, pool):
    """The ways to normalise and cap token weights, at the rate of the configuration."""
    tries = []
    for settings in WEIGHTS:
        name = "weights " + " ".join(setting.split("=", 1)[1] for setting in settings)
        tries.append(("".join(c for c in name if c.isalnum() or c in " ."), [w for one in settings for w in ("--set", one)], 1.0))
    on_development(arguments, pool, tries)


def search(arguments, pool):
    """Every method gets the same tries: four rates at full length, then the best of them at half of it. The best mean over
    the seeds is kept; of equals the smaller rate."""

    def a_try(method, rate, length):
        part = "" if length == 1.0 else f" {length:g}"
        return f"{method} {rate:g}{part}", ["--method", method, "--learning-rate", rate], length

    tries = [(method, rate, 1.0) for method in METHODS for rate in RATES]
    means = dict(zip(tries, on_development(arguments, pool, [a_try(*one) for one in tries])))
    best = {method: max(RATES, key=lambda rate: (means[method, rate, 1.0], -rate)) for method in METHODS}
    shorter = [(method, best[method], length) for method in METHODS for length in LENGTHS if length != 1.0]
    means |= dict(zip(shorter, on_development(arguments, pool, [a_try(*one) for one in shorter])))
    chosen = {}
    for method in METHODS:
        length = max(LENGTHS, key=lambda length: means[method, best[method], length])
        chosen[method] = {"rate": best[method], "length": length, "development": means[method, best[method], length]}
    print(json.dumps(chosen, indent=1))
    (arguments.out / f"{arguments.task}.chosen.json").write_text(json.dumps(chosen, indent=1))


def planned(arguments):
    """Rows: name, words for `train`, share of the tokens."""
    chosen = json.loads((arguments.out / f"{arguments.task}.chosen.json").read_text())
    rows = [(method, ["--method", method, "--learning-rate", chosen[method]["rate"]], chosen[method]["length"]) for method in METHODS]
    _, lcr, length = rows[0]
    rows += [(f"lcr without {name}", [*lcr, "--off", name], length) for name in arguments.without]
    return rows + [(f"lcr with {setting}", [*lcr, "--set", setting], length) for setting in arguments.with_setting]


def measure_all(arguments, pool):
    base = arguments.out / "base"
    base.mkdir(parents=True, exist_ok=True)
    sets = [PROBLEMS / f"{name}.jsonl" for name in ["heldout", "facts", "refusals"]]
    for data in sets:
        outcomes(arguments, base, data, adapter=False)

    def one(name, seed, words, length):
        folder = train(arguments, name, seed, words, length)
        for data in sets:
            outcomes(arguments, folder, data)
        print(f"{name}, seed {seed}", flush=True)

    waiting = [pool.submit(one, name, seed, words, length) for name, words, length in planned(arguments) for seed in range(arguments.seeds)]
    for future in waiting:
        future.result()


# ------------------------------------------------------------------------------------------------ tables


def interval(samples):
    ordered = sorted(samples)
    return ordered[int(0.025 * len(ordered))], ordered[int(0.975 * len(ordered))]


def two_level(first, second, seed=0):
    """Mean difference of two methods with a 95 % interval: seeds are drawn again within each method, then problems, the
    same ones for both. A row of `first` and `second` is a seed, a column a problem."""
    rng = random.Random(seed)
    count = len(first[0])
    differences = []
    for _ in range(RESAMPLES):
        drawn = collections.Counter(rng.choices(range(count), k=count))
        weights = [drawn[problem] for problem in range(count)]
        means = []
        for rows in (first, second):
            chosen = collections.Counter(rng.choices(range(len(rows)), k=len(rows)))
            total = sum(times * sum(w for w, right in zip(weights, rows[row]) if right) for row, times in chosen.items())
            means.append(total / len(rows) / count)
        differences.append(means[0] - means[1])
    mean = statistics.mean(map(statistics.mean, first)) - statistics.mean(map(statistics.mean, second))
    return mean, interval(differences)


def finished(arguments, name):
    folders = sorted((arguments.out / arguments.task).glob(f"{name.replace(' ', '_')}-*"))
    exact = [folder for folder in folders if folder.name.rsplit("-", 1)[0] == name.replace(" ", "_")]
    return [folder for folder in exact if is_finished(folder) and (folder / "heldout.outcomes.jsonl").exists()]


def read(folder, name):
    return [json.loads(line)["correct"] for line in (folder / f"{name}.outcomes.jsonl").read_text().splitlines()]


def exercised(folder, since=0.0):
    """Share of the groups with a scaffold in which each mechanism acts, from this part of the run on."""
    groups = collections.defaultdict(list)
    for line in (folder / "rollouts.jsonl").read_text().splitlines():
        rollout = json.loads(line)
        groups[rollout["iteration"]].append(rollout)
    first = since * (max(groups) + 1)
    several = [group for at, group in groups.items() if at >= first and any(one["view"].startswith("scaffold") for one in group)]

    def share(is_so):
        return sum(any(is_so(one) for one in group) for group in several) / max(1, len(several))

    def grows(group):
        views = [(one["token_counts"]["expert"], one["boundaries"]) for one in group if one["view"].startswith("scaffold")]
        return all(later[0] > earlier[0] and later[1] != earlier[1] for earlier, later in zip(views, views[1:]))

    return {
        "views grow": sum(map(grows, several)) / max(1, len(several)),
        "two stretches of the model": share(lambda one: one["model_chunks"] >= 2),
        "Jaccard": share(lambda one: one["jaccard"] is not None),
        "anchors": share(lambda one: one["segments"][0]["text"].startswith("system")),
        "forced close": share(lambda one: one["forced_close"]),
        "tail": share(lambda one: any(part["tag"] == "tail" for part in one["segments"])),
        "a loss": share(lambda one: one["advantage"] != 0),
    }


def movement(folder):
    """How far a run went from the base: divergence where it was measured, nats per token, and rotation, degrees."""
    steps = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    kl = {view: [step[f"kl_{view}"]["exact"] for step in steps if step[f"kl_{view}"]] for view in ["naked", "scaffolded"]}
    return {
        "KL to the base, naked, mean over the run": statistics.mean(kl["naked"]),
        "KL to the base, naked, last": kl["naked"][-1],
        "KL to the base, scaffolded, last": kl["scaffolded"][-1],
        "rotation per step, mean over rows and steps": statistics.mean(step["rotation_step_mean"] for step in steps),
        "rotation per step, largest row": max(step["rotation_step_max"] for step in steps),
        "rotation since the start, mean over rows": steps[-1]["rotation_total_mean"],
        "rotation since the start, largest row": steps[-1]["rotation_total_max"],
    }


def summary(arguments):
    """What the finished runs show, in points and percent."""
    base = {name: statistics.mean(read(arguments.out / "base", name)) for name in ["heldout", "facts", "refusals"]}
    found = {"base": {name: 100 * value for name, value in base.items()}, "rows": {}, "differences": {}}
    outcomes, start = {}, read(arguments.out / "base", "heldout")
    for name, words, length in planned(arguments):
        folders = finished(arguments, name)
        if len(folders) < arguments.seeds:
            continue
        outcomes[name] = [read(folder, "heldout") for folder in folders]
        gain, ends = two_level(outcomes[name], [start])
        means = [100 * statistics.mean(seed) for seed in outcomes[name]]
        found["rows"][name] = {
            "rate": words[words.index("--learning-rate") + 1], "length": length, "seeds": len(folders),
            "steps": sorted(json.loads((folder / "run.json").read_text())["progress"]["step"] for folder in folders),
            "minutes": statistics.mean(json.loads((folder / "seconds.json").read_text()) / 60 for folder in folders),
            "heldout": statistics.mean(means), "deviation": statistics.stdev(means) if len(means) > 1 else 0.0, "each": sorted(means),
            "gain": 100 * gain, "low": 100 * ends[0], "high": 100 * ends[1],
        }
        for kind in ["facts", "refusals"]:
            found["rows"][name][kind] = 100 * (statistics.mean(statistics.mean(read(folder, kind)) for folder in folders) - base[kind])
    for name in outcomes:
        if name != "lcr" and "lcr" in outcomes:
            mean, (low, high) = two_level(outcomes["lcr"], outcomes[name])
            found["differences"][name] = {"points": 100 * mean, "low": 100 * low, "high": 100 * high}
    runs = finished(arguments, "lcr")
    for key, since in [("groups", 0.0), ("last_quarter", 0.75)]:
        shares = [exercised(folder, since) for folder in runs]
        found[key] = {name: 100 * statistics.mean(share[name] for share in shares) for name in shares[0]} if shares else {}
    moved = [movement(folder) for folder in runs]
    found["movement"] = {name: sorted(one[name] for one in moved) for name in moved[0]} if moved else {}
    return found


def table(arguments):
    found = summary(arguments)
    if arguments.json:
        print(json.dumps(found, indent=1))
        return
    base = found["base"]
    lines = ["| method | learning rate | seeds | steps | minutes | held out, % | least, most | less step 0 (95 %) | facts | refusals |",
             "|---|---|---|---|---|---|---|---|---|---|",
             f"| step 0 | – | – | – | – | {base['heldout']:.1f} | – | – | {base['facts']:.1f} % | {base['refusals']:.1f} % |"]
    for name, row in found["rows"].items():
        lines.append(f"| {name} | {row['rate']:g} | {row['seeds']} | {row['steps'][0]}–{row['steps'][-1]} | {row['minutes']:.1f} "
                     f"| {row['heldout']:.1f} ± {row['deviation']:.1f} | {row['each'][0]:.1f}, {row['each'][-1]:.1f} "
                     f"| {row['gain']:+.1f} ({row['low']:+.1f} to {row['high']:+.1f}) | {row['facts']:+.1f} | {row['refusals']:+.1f} |")
    lines += ["", "| LCR less | points | 95 % interval |", "|---|---|---|"]
    lines += [f"| {name} | {one['points']:+.1f} | {one['low']:+.1f} to {one['high']:+.1f} |" for name, one in found["differences"].items()]
    lines += ["", "| of groups with a scaffold, % | whole run | last quarter |", "|---|---|---|"]
    lines += [f"| {name} | {share:.0f} | {found['last_quarter'][name]:.0f} |" for name, share in found["groups"].items()]
    lines += ["", "| LCR, over its seeds | least | median | most |", "|---|---|---|---|"]
    lines += [f"| {name} | {each[0]:.3g} | {statistics.median(each):.3g} | {each[-1]:.3g} |" for name, each in found["movement"].items()]
    print("\n".join(lines))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["weights", "search", "train", "table"])
    parser.add_argument("--task", choices=TASKS, default="hard")
    parser.add_argument("--binary", default=ROOT / "target" / "release" / "lcr-audit")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("learning"))
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--search-seeds", type=int, default=2)
    parser.add_argument("--without", nargs="*", choices=MECHANISMS, default=MECHANISMS, help="mechanisms that have a row")
    parser.add_argument("--with", dest="with_setting", nargs="*", default=[], metavar="KEY=VALUE", help="settings that have a row")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="the table as JSON")
    arguments = parser.parse_args()
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        if arguments.command == "weights":
            weights(arguments, pool)
        elif arguments.command == "search":
            search(arguments, pool)
        elif arguments.command == "train":
            measure_all(arguments, pool)
        else:
            table(arguments)


if __name__ == "__main__":
    main()
