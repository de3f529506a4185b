"""Trains the nano reasoner with every method, with each mechanism switched off, and at several ranks, and writes the table.

    cargo build --release --workspace
    python3 examples/nano_reasoner/compare_methods.py --out learning --table docs/learning.md

Every run has the same token budget: tokens that the model wrote plus tokens of the sequences it was trained on. A run that
is finished is not made again, so the script may be interrupted. Standard library only.
"""

import argparse
import concurrent.futures
import json
import pathlib
import statistics
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
NANO = ROOT / "bundled" / "nano"
MECHANISMS = [
    "varied-boundaries", "masking", "proximity", "jaccard", "naked-first", "early-stop", "positive-only", "relative",
    "forced-close", "answer-turn",
]


def runs(arguments):
    """Name, arguments of `train`, seeds."""
    seeds = range(arguments.seeds)
    for method in ["lcr", "sft", "filtered-sft", "grpo"]:
        yield method, ["--method", method], seeds
    for mechanism in MECHANISMS:
        yield f"lcr without {mechanism}", ["--off", mechanism], range(arguments.ablation_seeds)
    # The nano reasoner is trained without anchors unless asked.
    yield "lcr with one anchor", ["--set", "anchors.count=1"], range(arguments.ablation_seeds)
    for rank in [1, 2, 8]:
        yield f"lcr, rank {rank}", ["--rank", str(rank), "--alpha", str(2 * rank)], range(arguments.ablation_seeds)


def call(binary, *words):
    done = subprocess.run([binary, "--threads", "1", "--quiet", *map(str, words)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, words))}: {done.stderr}")
    return done.stdout


def evaluate(binary, adapter, folder):
    """Accuracy on every problem set and perplexity on the text, for the base where there is no adapter."""
    result = {}
    target = [adapter] if adapter else []
    for name in ["heldout", "facts", "refusals"]:
        words = ["eval", NANO, *target, "--data", NANO / "problems" / f"{name}.jsonl", "--json", "--thinking-budget", 160]
        if name == "heldout":
            words += ["--save", folder / "heldout.outcomes.jsonl"]
            words += ["--against", folder.parent / "base" / "heldout.outcomes.jsonl"] if adapter else []
        result[name] = json.loads(call(binary, *words))
    result["anchored"] = json.loads(call(
        binary, "eval", NANO, *target, "--data", NANO / "problems" / "heldout.jsonl", "--json", "--thinking-budget", 160,
        "--anchors", 2))
    result["text"] = json.loads(call(binary, "eval", NANO, *target, "--text", NANO / "problems" / "text.txt", "--json"))
    (folder / "evaluation.json").write_text(json.dumps(result))
    return result


def folder_of(out, name, seed):
    return out / f"{name.replace(' ', '_').replace(',', '')}-{seed}"


def train_and_evaluate(binary, out, name, words, seed, tokens):
    folder = folder_of(out, name, seed)
    finished = folder / "evaluation.json"
    if finished.exists():
        return json.loads(finished.read_text())
    if not (folder / "adapter_model.safetensors").exists():
        subprocess.run(["rm", "-rf", folder], check=True)
        call(binary, "train", *words, "--seed", seed, "--tokens", tokens, "--heldout-count", 0, "--out", folder)
    return evaluate(binary, folder, folder)


def points(results, key):
    return [100 * result[key]["accuracy"]["share"] for result in results]


def spread(values):
    mean = statistics.mean(values)
    return f"{mean:.1f} ± {statistics.stdev(values):.1f}" if len(values) > 1 else f"{mean:.1f}"


def row(name, results, base):
    accuracy = points(results, "heldout")
    gain = statistics.mean(accuracy) - points([base], "heldout")[0]
    worst = max(result["heldout"]["against"]["p_value"] for result in results)
    lost = {key: statistics.mean(points(results, key)) - points([base], key)[0] for key in ["facts", "refusals"]}
    perplexity = [result["text"]["perplexity"]["perplexity"] for result in results]
    p = "< 1e-300" if worst == 0 else f"{worst:.0e}"
    return (f"| {name} | {len(results)} | {spread(accuracy)} | {gain:+.1f} | {p} | {spread(points(results, 'anchored'))} "
            f"| {lost['facts']:+.1f} | {lost['refusals']:+.1f} | {statistics.mean(perplexity):.3f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=ROOT / "target" / "release" / "lcr-audit")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("learning"))
    parser.add_argument("--table", type=pathlib.Path)
    parser.add_argument("--tokens", type=int, default=300_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ablation-seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--finished", action="store_true", help="start no run: only the rows whose runs are finished")
    arguments = parser.parse_args()
    (arguments.out / "base").mkdir(parents=True, exist_ok=True)
    saved = arguments.out / "base" / "evaluation.json"
    base = json.loads(saved.read_text()) if saved.exists() else evaluate(arguments.binary, None, arguments.out / "base")
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        waiting = [
            (name, [pool.submit(train_and_evaluate, arguments.binary, arguments.out, name, words, seed, arguments.tokens) for seed in seeds])
            for name, words, seeds in runs(arguments)
            if not arguments.finished or all((folder_of(arguments.out, name, seed) / "evaluation.json").exists() for seed in seeds)
        ]
        head = [
            "| method | seeds | naked accuracy, % | points over step 0 | p, largest of the seeds | with anchors, % | facts | refusals | perplexity |",
            "|---|---|---|---|---|---|---|---|---|",
            f"| step 0 | – | {points([base], 'heldout')[0]:.1f} | – | – | {points([base], 'anchored')[0]:.1f} "
            f"| {points([base], 'facts')[0]:.1f} % | {points([base], 'refusals')[0]:.1f} % | {base['text']['perplexity']['perplexity']:.3f} |",
        ]
        lines = head[:]
        for name, futures in waiting:
            lines.append(row(name, [future.result() for future in futures], base))
            print(lines[-1], flush=True)
    table = "\n".join(lines) + "\n"
    if arguments.table:
        arguments.table.write_text(table)
    else:
        print(table)


if __name__ == "__main__":
    main()
