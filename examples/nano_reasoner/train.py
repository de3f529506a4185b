#!/usr/bin/env python3
"""Tokenizer, training and export of the nano reasoner. Needs torch, numpy, tokenizers, safetensors.

Why this way: the corpus (see generate.py) mixes careful and careless authors, and the model is to learn both habits and
how often each occurs, so training is plain next-token prediction, never on solutions chosen for being right. The sums
themselves must be learned from few tokens on a CPU, hence: digits are single tokens, one document per row (rows of like
length together, so hardly any padding), Muon for the matrices of the layers and Adam for the rest. The network is written
out below because that is twice as fast as a general one; its weights are those of Qwen3ForCausalLM, under its names.

    python train.py --out ../../bundled/nano
"""

import argparse
import json
import math
import os
import random
import time

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

import generate

CONFIG = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 128, "num_hidden_layers": 6,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "intermediate_size": 384, "hidden_act": "silu",
    "max_position_embeddings": 512, "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": True,
    "attention_bias": False, "attention_dropout": 0.0, "initializer_range": 0.02, "use_cache": True,
    "use_sliding_window": False, "sliding_window": None, "max_window_layers": 6, "rope_scaling": None,
    "torch_dtype": "bfloat16",
}
VOCAB = 896
END, START, STOP, THINK, THOUGHT = "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"
# A newline, an operator with its spaces, a stop or comma before a digit, a digit and `\boxed{` are pieces of their own, so
# that text encoded in parts (at line ends, after `<think>\n`, after `\boxed{`) gives the same ids as text encoded at once.
PIECES = r"\n|\\boxed\{|\}| [+*=-] (?=\p{N})|[.,:] (?=\p{N})|\p{N}| ?\p{L}+| ?[^\s\p{L}\p{N}}]|[^\S\n]+"
TEMPLATE = (
    "{%- for message in messages %}{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n<think>\\n' }}{%- endif %}")


def render(system, prompt):
    head = f"{START}system\n{system}{STOP}\n" if system else ""
    return f"{head}{START}user\n{prompt}{STOP}\n{START}assistant\n{THINK}\n"


def completion(thinking, boxed):
    return f"{thinking}{THOUGHT}\n\n\\boxed{{{boxed}}}{STOP}\n"


# ------------------------------------------------------------------------------------------------ tokenizer


def make_tokenizer(documents):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB - 5, initial_alphabet=alphabet, show_progress=False)
    texts = [f"user\n{s or ''}\n{p}\nassistant\nsystem\n{generate.answer_text(t, b)}" for s, p, t, b, _ in documents]
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in (END, START, STOP)])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in (THINK, THOUGHT)])
    return tokenizer


def write_folder(folder, tokenizer, config):
    os.makedirs(folder, exist_ok=True)
    tokenizer.save(os.path.join(folder, "tokenizer.json"))
    added = {str(tokenizer.token_to_id(t)): {"content": t, "lstrip": False, "normalized": False, "rstrip": False,
                                             "single_word": False, "special": t not in (THINK, THOUGHT)}
             for t in (END, START, STOP, THINK, THOUGHT)}
    files = {
        "config.json": config,
        "generation_config.json": {"bos_token_id": config["bos_token_id"], "eos_token_id": config["eos_token_id"],
                                   "pad_token_id": config["pad_token_id"], "do_sample": True, "temperature": 0.8,
                                   "top_p": 0.95, "top_k": 20},
        "tokenizer_config.json": {
            "add_bos_token": False, "add_prefix_space": False, "added_tokens_decoder": added,
            "additional_special_tokens": [START, STOP], "bos_token": None, "chat_template": TEMPLATE,
            "clean_up_tokenization_spaces": False, "eos_token": STOP, "errors": "replace", "model_max_length": 512,
            "pad_token": END, "tokenizer_class": "PreTrainedTokenizerFast", "unk_token": None},
    }
    for name, content in files.items():
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            json.dump(content, file, indent=2, ensure_ascii=False)
            file.write("\n")


# ------------------------------------------------------------------------------------------------ network


class Network:
    """Qwen3 written out over a dict of parameters."""

    def __init__(self, config, seed):
        generator = torch.Generator().manual_seed(seed)
        self.config, self.p = config, {}
        hidden, head = config["hidden_size"], config["head_dim"]
        heads, kv, mlp = config["num_attention_heads"], config["num_key_value_heads"], config["intermediate_size"]
        depth = config["num_hidden_layers"]

        def matrix(name, rows, columns, std):
            self.p[name] = (torch.randn(rows, columns, generator=generator) * std).requires_grad_()

        matrix("model.embed_tokens.weight", config["vocab_size"], hidden, 0.04)
        for i in range(depth):
            at = f"model.layers.{i}."
            small = hidden ** -0.5 / math.sqrt(2 * depth)
            matrix(at + "self_attn.q_proj.weight", heads * head, hidden, hidden ** -0.5)
            matrix(at + "self_attn.k_proj.weight", kv * head, hidden, hidden ** -0.5)
            matrix(at + "self_attn.v_proj.weight", kv * head, hidden, hidden ** -0.5)
            matrix(at + "self_attn.o_proj.weight", hidden, heads * head, small)
            matrix(at + "mlp.gate_proj.weight", mlp, hidden, hidden ** -0.5)
            matrix(at + "mlp.up_proj.weight", mlp, hidden, hidden ** -0.5)
            matrix(at + "mlp.down_proj.weight", hidden, mlp, small)
            for name, size in (("input_layernorm", hidden), ("post_attention_layernorm", hidden),
                               ("self_attn.q_norm", head), ("self_attn.k_norm", head)):
                self.p[at + name + ".weight"] = torch.ones(size, requires_grad=True)
        self.p["model.norm.weight"] = torch.ones(hidden, requires_grad=True)
        angle = torch.outer(torch.arange(config["max_position_embeddings"]).float(),
                            config["rope_theta"] ** (-torch.arange(0, head, 2).float() / head))
        self.cos, self.sin = torch.cat([angle, angle], 1).cos(), torch.cat([angle, angle], 1).sin()

    def norm(self, x, name):
        return F.rms_norm(x, x.shape[-1:], self.p[name + ".weight"], self.config["rms_norm_eps"])

    def rope(self, x):
        length, half = x.shape[2], x.shape[3] // 2
        turned = torch.cat([-x[..., half:], x[..., :half]], -1)
        return x * self.cos[:length] + turned * self.sin[:length]

    def forward(self, ids):
        """Hidden states after the last norm."""
        rows, length = ids.shape
        head, groups = self.config["head_dim"], self.config["num_attention_heads"] // self.config["num_key_value_heads"]
        x = F.embedding(ids, self.p["model.embed_tokens.weight"])
        for i in range(self.config["num_hidden_layers"]):
            at = f"model.layers.{i}."
            h = self.norm(x, at + "input_layernorm")
            q, k, v = (F.linear(h, self.p[at + f"self_attn.{n}_proj.weight"]).view(rows, length, -1, head) for n in "qkv")
            q = self.rope(self.norm(q, at + "self_attn.q_norm").transpose(1, 2))
            k = self.rope(self.norm(k, at + "self_attn.k_norm").transpose(1, 2))
            k, v = k.repeat_interleave(groups, 1), v.transpose(1, 2).repeat_interleave(groups, 1)
            h = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(rows, length, -1)
            x = x + F.linear(h, self.p[at + "self_attn.o_proj.weight"])
            h = self.norm(x, at + "post_attention_layernorm")
            h = F.silu(F.linear(h, self.p[at + "mlp.gate_proj.weight"])) * F.linear(h, self.p[at + "mlp.up_proj.weight"])
            x = x + F.linear(h, self.p[at + "mlp.down_proj.weight"])
        return self.norm(x, "model.norm")

    def logits(self, hidden):
        return F.linear(hidden, self.p["model.embed_tokens.weight"])

    def save(self, folder):
        tensors = {name: p.detach().to(torch.bfloat16).contiguous() for name, p in self.p.items()}
        save_file(tensors, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})


class Muon:
    """Momentum whose step is made orthogonal (Newton-Schulz), for all matrices of one shape at once."""

    def __init__(self, parameters, momentum=0.95):
        shapes = {}
        for p in parameters:
            shapes.setdefault(tuple(p.shape), []).append(p)
        self.groups = [(ps, torch.zeros(len(ps), *shape)) for shape, ps in shapes.items()]
        self.momentum = momentum

    @torch.no_grad()
    def step(self, lr):
        for ps, buffer in self.groups:
            grad = torch.stack([p.grad for p in ps])
            buffer.lerp_(grad, 1 - self.momentum)
            x = grad.lerp(buffer, self.momentum)
            tall = x.shape[1] > x.shape[2]
            x = x.mT if tall else x
            x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
            for _ in range(5):
                a = x @ x.mT
                x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
            x = x.mT if tall else x
            scale = max(1.0, x.shape[1] / x.shape[2]) ** 0.5
            for p, update in zip(ps, x):
                p.mul_(1 - 0.01 * lr).add_(update, alpha=-lr * scale)


# ------------------------------------------------------------------------------------------------ data and training


def batches(tokenizer, seed, exclude, rows, prompt_weight, parts=4, pool=48):
    """Endless batches, each a list of `parts` blocks (ids, targets, weights) of `rows` / `parts` documents of like length.

    A batch must hold short and long documents alike: long ones are those of careful authors, and if batches alternated
    between the two sorts, steps of normalised size would teach the commoner habit instead of how common each is."""
    rng = random.Random(seed)
    pad = tokenizer.token_to_id(END)
    block = rows // parts

    def padded(coded):
        width = max(len(h) + len(t) for h, t in coded)
        ids = torch.full((block, width), pad)
        weights = torch.zeros(block, width)
        for row, (h, t) in enumerate(coded):
            ids[row, :len(h) + len(t)] = torch.tensor(h + t)
            weights[row, :len(h)] = prompt_weight
            weights[row, len(h):len(h) + len(t)] = 1.0
        return ids[:, :-1], ids[:, 1:], weights[:, 1:]

    while True:
        documents = list(generate.documents(rng.getrandbits(40), rows * pool, exclude))
        heads = tokenizer.encode_batch([render(d[0], d[1]) for d in documents])
        tails = tokenizer.encode_batch([completion(d[2], d[3]) for d in documents])
        coded = sorted(((h.ids, t.ids) for h, t in zip(heads, tails)), key=lambda c: len(c[0]) + len(c[1]))
        blocks = [coded[i * block:(i + 1) * block] for i in range(pool * parts)]
        lengths = [rng.sample(blocks[i * pool:(i + 1) * pool], pool) for i in range(parts)]
        for batch in zip(*lengths):
            yield [padded(b) for b in batch]


@torch.no_grad()
def quick_accuracy(network, tokenizer, problems, seed, temperature):
    """Shares of `problems` whose box is right and of written-out sums that are right, and the number of those sums; thinking
    and box in one go, without the protocol of evaluate.py."""
    generator = torch.Generator().manual_seed(seed)
    stop = tokenizer.token_to_id(STOP)
    right, careful, careful_right = 0, 0, 0
    for start in range(0, len(problems), 50):
        part = problems[start:start + 50]
        coded = [tokenizer.encode(render(None, r["prompt"])).ids for r in part]
        lengths = torch.tensor([len(c) for c in coded])
        ids = torch.full((len(part), int(lengths.max()) + 180), stop)
        for row, c in enumerate(coded):
            ids[row, :len(c)] = torch.tensor(c)
        done = torch.zeros(len(part), dtype=torch.bool)
        for step in range(170):
            live = (~done).nonzero()[:, 0]
            hidden = network.forward(ids[live, :int(lengths[live].max())])
            logits = network.logits(hidden[torch.arange(len(live)), lengths[live] - 1])
            new = logits.argmax(-1) if temperature == 0 else torch.multinomial(
                F.softmax(logits / temperature, -1), 1, generator=generator)[:, 0]
            ids[live, lengths[live]] = new
            lengths[live] += 1
            done[live] |= new == stop
            if done.all():
                break
        for row in range(len(part)):
            text = tokenizer.decode(ids[row, len(coded[row]):lengths[row]].tolist(), skip_special_tokens=False)
            right += f"\\boxed{{{part[row]['ground_truth']}}}" in text
            for ok in generate.check_careful(text):
                careful += 1
                careful_right += ok
    return right / len(problems), careful_right / max(careful, 1), careful


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", required=True, help="folder of the model; its problems/ are read for the quick accuracy")
    parser.add_argument("--steps", type=int, default=2850)
    parser.add_argument("--rows", type=int, default=32, help="documents per step")
    parser.add_argument("--lr", type=float, default=0.02, help="of Muon")
    parser.add_argument("--lr-adam", type=float, default=3e-3)
    parser.add_argument("--prompt-weight", type=float, default=0.15)
    parser.add_argument("--warmup", type=int, default=60)
    parser.add_argument("--decay", type=float, default=0.25, help="last share of the steps in which the rate falls to 0")
    parser.add_argument("--every", type=int, default=1000, help="steps between quick accuracies; checkpoints come five times as often")
    parser.add_argument("--checkpoints", help="folder for checkpoints (default: --out); a file `steps` in it, with a number, "
                                              "replaces --steps while the training runs")
    parser.add_argument("--resume", help="a state.pt to go on from")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)

    exclude = generate.excluded_prompts()
    tokenizer = make_tokenizer(generate.documents(args.seed, 20000, exclude))
    stop, pad = tokenizer.token_to_id(STOP), tokenizer.token_to_id(END)
    config = dict(CONFIG, vocab_size=tokenizer.get_vocab_size(), bos_token_id=None, eos_token_id=stop, pad_token_id=pad)
    network = Network(config, args.seed)
    write_folder(args.out, tokenizer, config)
    network.save(args.out)
    checkpoints = args.checkpoints or args.out
    if checkpoints != args.out:
        write_folder(checkpoints, tokenizer, config)
    problems = generate.problem_sets()["heldout.jsonl"][:30]
    print(f"{sum(p.numel() for p in network.p.values()):,} parameters, vocabulary {config['vocab_size']}", flush=True)

    matrices = [p for name, p in network.p.items() if "_proj" in name]
    others = [p for name, p in network.p.items() if "_proj" not in name]
    muon, adam = Muon(matrices), torch.optim.AdamW(others, lr=args.lr_adam, betas=(0.9, 0.98), weight_decay=0.0)
    total, begun, seen, mean = args.steps, time.time(), 0, None
    step = 0
    if args.resume:
        state = torch.load(args.resume)
        step = state["step"]
        with torch.no_grad():
            for name, p in network.p.items():
                p.copy_(state["network"][name])
            for (_, buffer), saved in zip(muon.groups, state["muon"]):
                buffer.copy_(saved)
        adam.load_state_dict(state["adam"])
    stream = batches(tokenizer, args.seed + 1 + step, exclude, args.rows, args.prompt_weight)
    while step < total:
        for p in network.p.values():
            p.grad = None
        batch = next(stream)
        weight, loss = sum(float(weights.sum()) for _, _, weights in batch), 0.0
        for ids, targets, weights in batch:
            kept = weights > 0
            hidden = network.forward(ids)[kept]
            losses = F.cross_entropy(network.logits(hidden), targets[kept], reduction="none")
            part = (losses * weights[kept]).sum() / weight
            part.backward()
            loss += part.item()
            seen += int(kept.sum())
        torch.nn.utils.clip_grad_norm_(network.p.values(), 1.0)
        rate = min(1.0, (step + 1) / args.warmup, (total - step) / (total * args.decay))
        muon.step(args.lr * rate)
        adam.param_groups[0]["lr"] = args.lr_adam * rate
        adam.step()
        step += 1
        mean = loss if mean is None else 0.98 * mean + 0.02 * loss
        if step % 50 == 0:
            if os.path.exists(os.path.join(checkpoints, "steps")):
                with open(os.path.join(checkpoints, "steps"), encoding="utf-8") as file:
                    total = int(file.read())
            print(f"step {step}/{total} loss {mean:.4f} tokens {seen:,} {seen / (time.time() - begun):,.0f} tokens/s "
                  f"{time.time() - begun:.0f} s", flush=True)
        if step % (args.every // 5) == 0:
            network.save(checkpoints)
            torch.save({"step": step, "network": network.p, "muon": [b for _, b in muon.groups],
                        "adam": adam.state_dict()}, os.path.join(checkpoints, "state.pt"))
        if step % args.every == 0:
            right, sums, count = quick_accuracy(network, tokenizer, problems, step, 0.8)
            print(f"  step {step}, temperature 0.8: {right:.0%} right, {sums:.1%} of {count} written-out sums right", flush=True)
    network.save(args.out)


if __name__ == "__main__":
    main()
