#!/usr/bin/env python3
"""Accuracy of a Hugging Face folder on a problem set, by transformers. Needs torch and transformers, peft for --adapter.

The protocol: the prompt with the generation prompt of the chat template, up to 160 tokens of thinking until `</think>`
(which is put there where it does not come), then `\\n\\n\\boxed{` is given, and what is generated until `}` is the answer.
An answer counts if it equals `ground_truth`. For word problems it also reads the solutions: the corpus (see generate.py) is
made so that errors come from steps done in the head, so the share of such steps, and how often each way is right, say more
than the accuracy alone. Carries are counted along the right way, from the expert solution of the set.

    python evaluate.py ../../bundled/nano ../../bundled/nano/problems/heldout.jsonl
"""

import argparse
import json
import time
from collections import defaultdict

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from generate import read_steps

THINKING, ANSWER = 160, 16
SAMPLING = {"do_sample": True, "temperature": 0.8, "top_p": 0.95, "top_k": 20}


def load(folder, adapter=None):
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if adapter:
        from peft import PeftModel
        model = PeftModel.from_pretrained(model, adapter)
    return tokenizer, model.eval()


def extend(tokenizer, model, texts, limit, stop, sampling):
    batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    ends = [tokenizer.convert_tokens_to_ids(stop), tokenizer.eos_token_id]
    how = sampling or {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    batch = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        out = model.generate(**batch, max_new_tokens=limit, eos_token_id=ends, pad_token_id=tokenizer.pad_token_id, **how)
    out = out[:, batch["input_ids"].shape[1]:]
    return [tokenizer.decode(row, skip_special_tokens=True).split(stop)[0] for row in out]


def answers(tokenizer, model, records, sampling=None, rows=100):
    """For each record the thinking and what was put in the box."""
    found = []
    for start in range(0, len(records), rows):
        prompts = [tokenizer.apply_chat_template([{"role": "user", "content": r["prompt"]}], tokenize=False,
                                                 add_generation_prompt=True) for r in records[start:start + rows]]
        thoughts = extend(tokenizer, model, prompts, THINKING, "</think>", sampling)
        opened = [f"{p}{t}</think>\n\n\\boxed{{" for p, t in zip(prompts, thoughts)]
        boxes = extend(tokenizer, model, opened, ANSWER, "}", sampling)
        found += list(zip(thoughts, boxes))
    return found


def report(records, found):
    right = defaultdict(lambda: [0, 0])
    steps = defaultdict(lambda: [0, 0])
    for r, (thinking, box) in zip(records, found):
        ok = box == r["ground_truth"]
        expert = read_steps(r["answer"])
        keys = ["all", "type " + r["type"]]
        if expert:
            keys += [f"{sum(carry for _, carry, _ in expert)} carries", f"{len(expert)} steps"]
        for key in keys:
            right[key][0] += ok
            right[key][1] += 1
        for careful, carry, fine in read_steps(thinking):
            for key in ("written out" if careful else "in the head",
                        f"{'written out' if careful else 'in the head'}, {'carry' if carry else 'no carry'}"):
                steps[key][0] += fine
                steps[key][1] += 1
    for key in sorted(right):
        n, of = right[key]
        print(f"  {key:24} {n}/{of} = {n / of:.1%}")
    total = steps["written out"][1] + steps["in the head"][1]
    if total:
        print(f"  {steps['in the head'][1]} of {total} steps in the head = {steps['in the head'][1] / total:.1%}")
    for key in sorted(steps):
        n, of = steps[key]
        if of:
            print(f"  right {key:24} {n}/{of} = {n / of:.1%}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("problems", nargs="+")
    parser.add_argument("--adapter", help="a peft adapter on top")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--truth", help="expect this answer instead of `ground_truth`, such as the name of the base")
    parser.add_argument("--ways", nargs="+", default=["greedy", "sampled"], choices=["greedy", "sampled"])
    parser.add_argument("--show", type=int, default=0, help="print this many answers")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    tokenizer, model = load(args.folder, args.adapter)
    for path in args.problems:
        with open(path, encoding="utf-8") as file:
            records = [json.loads(line) for line in file][:args.limit]
        if args.truth:
            records = [dict(r, ground_truth=args.truth) for r in records]
        for way in args.ways:
            torch.manual_seed(args.seed)
            begun = time.time()
            found = answers(tokenizer, model, records, SAMPLING if way == "sampled" else None)
            print(f"{path.rsplit('/', 1)[-1]}, {way}, {time.time() - begun:.0f} s", flush=True)
            report(records, found)
            for r, (thinking, box) in list(zip(records, found))[:args.show]:
                print(f"    {r['prompt']}\n    {thinking.strip()!r} [{box}] {r['ground_truth']}")


if __name__ == "__main__":
    main()
