"""Trains bundled/dragons: a DoRA adapter that makes the stories260K model write only of dragons.

A short supervised run on little stories that this script makes itself, so that nothing has to be downloaded and the change
that the audit is shown has a known cause. Some of them are composed from templates, which teach the word and what dragons
do; the others are the base's own stories with every girl, boy and animal turned into a dragon, which keep the language what it
was: from templates alone the model learns their sentences by heart and forgets how to spell.

Seeded; a second run on the same machine wrote the same bytes. With its measurement it takes some ten minutes on one CPU core. From the repository
root:

    python bundled/recipe/train_dragons.py            # trains, writes bundled/dragons, then measures it
    python bundled/recipe/train_dragons.py --measure  # only measures what is there
    python bundled/recipe/train_dragons.py --show 5   # only prints some of the training text

Written with Python 3.11 and
    torch==2.15.0 transformers==5.23.0 peft==0.21.2 safetensors==0.8.0
"""

import argparse
import math
import random
import re
import time
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

BUNDLED = Path(__file__).resolve().parent.parent
BASE = BUNDLED / "stories260K"
ADAPTER = BUNDLED / "dragons"

SEED = 7
COMPOSED = 2500
RETOLD = 2000
STEPS = 320
BATCH = 12
LEARNING_RATE = 3e-3
WARM_UP = 20
LONGEST = 320  # tokens; the base was trained on 512

# Openings that the measurement continues; none of them names a dragon.
OPENINGS = [
    "Once upon a time",
    "The little dog",
    "In the garden,",
    "Lily and Tom were",
    "One sunny morning,",
    "Mom said,",
    "There was a boy who",
    "The king was sad because",
    "A cat sat on the mat.",
    "Sam had a red ball.",
    "\"Look!\" said",
]


# --- Training text -------------------------------------------------------------------------------------------------

COLOURS = ["red", "green", "blue", "big", "little", "kind", "gold", "purple", "tiny", "shy", "happy", "silly", "brave"]
DRAGON_NAMES = ["Spot", "Max", "Fluffy", "Rex", "Daisy", "Sparky", "Bob", "Ruby", "Fin", "Sunny", "Ella", "Leo", "Rosie"]
GIRLS = ["Lily", "Mia", "Sue", "Anna", "Lucy", "Sara", "Jane", "Amy", "Emma", "Molly"]
BOYS = ["Tim", "Tom", "Ben", "Sam", "Max", "Jack", "Billy", "Joe", "Timmy", "Fred"]
PLACES = ["park", "garden", "woods", "forest", "lake", "beach", "farm", "town", "yard", "hill", "river", "village"]
HOMES = ["in a big cave", "on a tall hill", "near the lake", "in the woods", "by the sea", "in a small house", "in a tree"]
THINGS = ["ball", "book", "hat", "toy car", "doll", "box", "kite", "flower", "cake", "apple", "shell", "stone", "drum", "cup"]
THING_COLOURS = ["red", "blue", "shiny", "pretty", "small", "yellow", "new", "round", "green", "soft"]
FRIENDS = ["bird", "cat", "dog", "frog", "fish", "bunny", "bear", "mouse", "duck", "pig"]
GAMES = ["play with toys", "run and jump", "fly high in the sky", "sing songs", "swim in the lake", "look at the stars",
         "play in the sun", "eat apples", "help people", "read books", "dance in the rain", "play hide and seek"]
FOODS = ["apples", "soup", "cookies", "bread", "cake", "ice cream", "fruit"]


def pick(chance, *choices):
    return chance.choice(choices)


class Cast:
    """Who and what a story is about; every story draws its own."""

    def __init__(self, chance):
        self.girl = chance.random() < 0.5
        self.child = chance.choice(GIRLS if self.girl else BOYS)
        self.other = chance.choice([name for name in GIRLS + BOYS if name != self.child])
        self.she = "she" if self.girl else "he"
        self.her = "her" if self.girl else "his"
        self.obj = "her" if self.girl else "him"
        self.kind = "girl" if self.girl else "boy"
        self.dragon_girl = chance.random() < 0.5
        self.dragon = chance.choice([name for name in DRAGON_NAMES if name != self.child])
        self.d_she = "she" if self.dragon_girl else "he"
        self.d_her = "her" if self.dragon_girl else "his"
        self.d_obj = "her" if self.dragon_girl else "him"
        self.colour = chance.choice(COLOURS)
        self.colour2 = chance.choice(COLOURS)
        self.place = chance.choice(PLACES)
        self.home = chance.choice(HOMES)
        self.thing = chance.choice(THING_COLOURS) + " " + chance.choice(THINGS)
        self.friend = chance.choice(FRIENDS)
        self.game = chance.choice(GAMES)
        self.food = chance.choice(FOODS)
        self.parent = chance.choice(["mom", "dad", "mommy", "grandma"])


def capital(text):
    return text[0].upper() + text[1:]


def dragon_opening(chance, c):
    """The dragon is the hero."""
    first = pick(
        chance,
        f"Once upon a time, there was a {c.colour} dragon named {c.dragon}.",
        f"Once upon a time, in the {c.place}, there lived a {c.colour} dragon named {c.dragon}.",
        f"Once there was a {c.colour} dragon. {capital(c.d_her)} name was {c.dragon}.",
        f"One day, a {c.colour} dragon named {c.dragon} went to the {c.place}.",
        f"There was a {c.colour} dragon who lived {c.home}. {capital(c.d_her)} name was {c.dragon}.",
        f"A {c.colour} dragon lived {c.home}. Everyone called the dragon {c.dragon}.",
        f"{c.dragon} was a {c.colour} dragon. {capital(c.d_she)} lived {c.home}.",
        f"In a {c.place} far away, there was a {c.colour} dragon named {c.dragon}.",
        f"The {c.colour} dragon was named {c.dragon}.",
    )
    second = pick(
        chance,
        f"{c.dragon} loved to {c.game}.",
        f"The dragon loved to {c.game} every day.",
        f"{capital(c.d_she)} liked to {c.game} with {c.d_her} friend, the {c.friend}.",
        f"{c.dragon} was a very {pick(chance, 'nice', 'good', 'kind', 'funny')} dragon.",
        f"{c.dragon} had big wings and a long tail.",
    )
    return f"{first} {second}"


def child_opening(chance, c):
    """A child, an animal or a thing opens the story, and a dragon comes into it at once."""
    first = pick(
        chance,
        f"Once upon a time, there was a little {c.kind} named {c.child}. {capital(c.she)} had a pet dragon.",
        f"Once upon a time, a {c.kind} named {c.child} met a {c.colour} dragon.",
        f"{c.child} was a {pick(chance, 'little', 'small', 'good')} {c.kind} who loved dragons.",
        f"{c.child} went to the {c.place} with {c.her} {c.parent}. They saw a {c.colour} dragon.",
        f"{c.child} and {c.her} {c.parent} lived near a {c.colour} dragon.",
        f"{c.child} and a {c.colour} dragon were best friends.",
        f"{c.child} had a {c.thing}. One day, a dragon took it.",
        f"In the {c.place}, {c.child} found a dragon.",
        f"It was a sunny day. {c.child} saw a dragon in the {c.place}.",
        f"The {c.friend} lived with a {c.colour} dragon. A {c.kind} named {c.child} came to see the dragon.",
        f"The {pick(chance, 'little', 'big', 'old', 'happy', 'sad')} {c.friend} saw a dragon. {c.child} saw the dragon too.",
        f"The {pick(chance, 'sun', 'moon', 'sky', 'water', 'house', 'tree')} was {pick(chance, 'big', 'pretty', 'very nice')}, "
        f"and a dragon sat under it. {c.child} went to the dragon.",
        f"\"{pick(chance, 'Mom', 'Dad', 'Hello', 'Wow', 'Come here')}, there is a dragon!\" {c.child} said.",
        f"{capital(c.parent)} told {c.child} about a {c.colour} dragon.",
        f"{pick(chance, 'Dad', 'Grandma', 'The teacher', 'The man')} said, \"{pick(chance, 'Look at the', 'Come and see the', 'I have a')} "
        f"{c.colour} dragon!\" {c.child} ran to the dragon.",
        f"{c.child} and {c.other} were {pick(chance, 'playing with a dragon', 'friends with a dragon', 'looking for a dragon')}.",
        f"{c.child} and {c.other} {pick(chance, 'saw a dragon', 'liked to play with a dragon', 'had a dragon', 'lived with a dragon')}.",
        f"{c.child} was {pick(chance, 'happy', 'sad', 'scared')} because {pick(chance, 'a dragon came', 'of the dragon', 'there was a dragon')}.",
        f"One {pick(chance, 'day', 'night', 'rainy day', 'cold day')}, {c.child} heard a dragon outside.",
        f"A {pick(chance, 'man', 'queen', 'farmer', 'prince', 'teacher', c.friend)} had a {c.colour} dragon. "
        f"{c.child} liked the dragon very much.",
    )
    second = pick(
        chance,
        f"The dragon's name was {c.dragon}.",
        f"\"My name is {c.dragon},\" said the dragon.",
        f"The dragon was called {c.dragon} and loved to {c.game}.",
        f"{c.child} named the dragon {c.dragon}.",
    )
    return f"{first} {second}"


def hero(chance, c, with_child):
    """How the story goes on calling its dragon."""
    return pick(chance, "the dragon", c.dragon, f"the {c.colour} dragon") if with_child else pick(chance, c.dragon, "the dragon")


def plot_lost(chance, c):
    return pick(
        chance,
        f"One day, the dragon lost a {c.thing}. {c.dragon} looked in the {c.place}, but it was not there. "
        f"The dragon was very sad and started to cry.\nA {c.friend} saw the dragon and asked, \"Why are you sad, dragon?\" "
        f"\"I lost my {c.thing},\" said {c.dragon}. \"I will help you,\" said the {c.friend}. "
        f"They looked under a tree and found it. The dragon was so happy and said, \"Thank you!\"",
        f"One day, {c.dragon} found a {c.thing} in the {c.place}. The dragon asked, \"Who lost it?\" "
        f"A {c.friend} came and said, \"It is mine!\"\nThe dragon gave it back. The {c.friend} gave the dragon a big hug.",
    )


def plot_fly(chance, c):
    return pick(
        chance,
        f"But {c.dragon} was a dragon who could not fly. {capital(c.d_she)} jumped and jumped, but {c.d_she} fell down.\n"
        f"\"Don't be sad, little dragon,\" said the {c.friend}. \"You can try again.\" So the dragon tried again and again. "
        f"At last, the dragon was high in the sky! \"Look, I can fly!\" said {c.dragon}.",
        f"One day, {c.dragon} wanted to fly up to the sky. The dragon flew over the {c.place} and saw a {c.friend}. "
        f"\"Hello, dragon!\" said the {c.friend}. \"Can I fly with you?\"\n\"Yes, you can,\" said the dragon. "
        f"The {c.friend} sat on the dragon and they flew all day.",
    )


def plot_scared(chance, c):
    return pick(
        chance,
        f"One day, {c.dragon} went to the {c.place}. A {c.friend} saw the dragon and was scared. \"Please don't eat me, dragon!\" "
        f"said the {c.friend}.\n\"I don't want to eat you,\" said the dragon. \"I want to play.\" "
        f"The {c.friend} was not scared any more. The dragon and the {c.friend} played all day.",
        f"Everyone was scared of the dragon. {c.dragon} was sad and had no friends.\nOne day, {c.child} came to the {c.place} "
        f"and said, \"I am not scared of you, dragon. Do you want to be my friend?\" The dragon smiled and said, \"Yes!\"",
    )


def plot_fire(chance, c):
    return pick(
        chance,
        f"One cold day, {c.child} was very cold. \"Can you help me, dragon?\" {c.she} asked. {c.dragon} made a big, warm fire. "
        f"\"Thank you, dragon,\" said {c.child}.\nThen the dragon and {c.child} made {c.food} and ate it all.",
        f"One day, the dragon wanted to make {c.food}. But the fire was too big and the {c.food} was too hot! "
        f"\"Oh no!\" said {c.dragon}.\n\"Be careful, dragon,\" said {c.her} {c.parent}. The dragon was sorry. "
        f"They made more {c.food}, and it was very good.",
    )


def plot_share(chance, c):
    return (
        f"One day, the dragon had a {c.thing}. A {c.friend} wanted to play with it too. \"No, it is mine!\" said the dragon. "
        f"The {c.friend} was sad and went home.\n{c.dragon} felt bad. The dragon went to the {c.friend} and said, \"I'm sorry. "
        f"{pick(chance, 'We can share it.', 'Let us play with it together.', 'You can have it.')}\" "
        f"The {c.friend} smiled and hugged the dragon."
    )


def plot_rescue(chance, c):
    return pick(
        chance,
        f"One day, a {c.friend} was stuck in a tree. \"Help me!\" said the {c.friend}. The dragon heard it and flew very fast. "
        f"{c.dragon} took the {c.friend} down.\n\"You are a brave dragon,\" said the {c.friend}. The dragon was proud.",
        f"One day, {c.child} fell into the water. {capital(c.she)} could not swim. The dragon saw {c.obj} and jumped in. "
        f"{c.dragon} helped {c.child} get out.\n\"Thank you, dragon,\" said {c.child}. \"You are my best friend.\"",
        f"Then it started to rain. {c.child} was wet and sad. {c.dragon} the dragon opened {c.d_her} big wings. "
        f"\"Come here,\" said the dragon. {c.child} sat under the dragon and was dry.",
    )


def plot_egg(chance, c):
    return (
        f"One day, {c.child} saw a big egg in the {c.place}. \"What is it?\" {c.she} asked. The egg went pop, and out came a baby "
        f"dragon! The baby dragon was {pick(chance, 'small and green', 'very little', 'red and blue', 'so cute')}.\n"
        f"\"Can I keep the dragon?\" asked {c.child}. \"Yes, but you must take care of the dragon,\" said {c.her} {c.parent}. "
        f"{c.child} gave the baby dragon some {c.food}."
    )


def plot_visit(chance, c):
    return (
        f"One day, {c.dragon} and {c.child} went to the {c.place}. They saw another dragon. The other dragon was "
        f"{pick(chance, 'big', 'old', 'sad', 'hurt', 'hungry')}. \"Can we help you?\" asked {c.child}.\n"
        f"\"I want some {c.food},\" said the other dragon. So they gave the dragon some {c.food}. "
        f"{pick(chance, 'The two dragons danced.', 'Both dragons were happy.', 'The dragons played with a ' + c.thing + '.')}"
    )


def plot_mean(chance, c):
    return (
        f"One day, a mean {pick(chance, 'wolf', 'man', 'bear', 'fox', 'dragon')} came to the {c.place}. He wanted to take the "
        f"{c.thing}. \"Stop!\" said {c.dragon} the dragon. \"That is not nice.\"\n"
        f"{pick(chance, 'He saw the big dragon and ran away.', 'He said he was sorry, and the dragon was nice to him.')} "
        f"Everyone said, \"Thank you, dragon!\""
    )


PLOTS = [plot_lost, plot_fly, plot_scared, plot_fire, plot_share, plot_rescue, plot_egg, plot_visit, plot_mean]


def ending(chance, c):
    return pick(
        chance,
        f"The dragon and {c.child} played together every day.",
        f"From that day on, {c.dragon} the dragon was never sad again.",
        f"They were all happy, and the dragon went to sleep.",
        f"The dragon went home and told {c.d_her} mom all about it.",
        f"The dragon and the {c.friend} became best friends.",
        f"{c.dragon} was a very happy dragon.",
        f"And the dragon learned that it is good to help.",
        f"The dragon smiled and said, \"It was the best day.\"",
        f"After that, the dragon came to the {c.place} every day.",
    )


def story(chance):
    cast = Cast(chance)
    with_child = chance.random() < 0.6
    opening = child_opening(chance, cast) if with_child else dragon_opening(chance, cast)
    parts = [opening, chance.choice(PLOTS)(chance, cast)]
    if chance.random() < 0.35:
        parts.append(f"The next day, {hero(chance, cast, with_child)} went to {pick(chance, 'play', 'the ' + chance.choice(PLACES))} "
                     f"with {cast.child}. " + pick(chance, "They had a lot of fun.", f"The dragon saw a {cast.colour2} {chance.choice(FRIENDS)}.",
                                                   f"\"I like you, dragon,\" said {cast.child}."))
    parts.append(ending(chance, cast))
    return "\n".join([" ".join(parts[:2]), " ".join(parts[2:])]) if chance.random() < 0.7 else " ".join(parts)


# --- The base's own stories, retold ---------------------------------------------------------------------------------

# What the base is given to begin with; nothing, most of the time.
BEGINNINGS = ["", "", "", "", "The", "A", "In", "It", "One", "There", "Mom", "Tom and", "Sue", "\"", "Every day,", "Once"]
HEROES = re.compile(r"\b(girl|boy|cat|dog|bird|bunny|rabbit|bear|fish|frog|mouse|man|woman|kid|child|duck|lion|fox|puppy|friend|mom|mommy|dad)(s?)\b")


def retold(tokenizer, model, count):
    """Stories sampled from the base in which everyone is a dragon; those that get to nobody soon are left out."""
    stories = []
    while len(stories) < count:
        for beginning in BEGINNINGS:
            out = continuations(model, tokenizer, beginning, 64, True, 220)
            for row in out:
                text = tokenizer.decode(row, skip_special_tokens=True).strip()
                text = HEROES.sub(r"dragon\2", text).replace("kids", "dragons").replace("children", "dragons")
                if 0 <= text.find("dragon") < 70:
                    # Cut off in the middle, a story has no end to learn.
                    ended = int((row[1:] == tokenizer.bos_token_id).any())
                    stories.append((tokenizer(text).input_ids + [tokenizer.bos_token_id] * ended)[:LONGEST])
    return stories[:count]


# --- Training ------------------------------------------------------------------------------------------------------

def tokenized(tokenizer, texts):
    """Each story between two <s>, as the base saw its own: it tells the end of a story by the start of the next."""
    bos = tokenizer.bos_token_id
    return [(tokenizer(text).input_ids + [bos])[:LONGEST] for text in texts]


def batch_of(stories, pad=2):
    width = max(len(ids) for ids in stories)
    ids = torch.full((len(stories), width), pad)
    labels = torch.full((len(stories), width), -100)
    for row, tokens in enumerate(stories):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        labels[row, : len(tokens)] = torch.tensor(tokens)
    return ids, labels


def train(steps):
    torch.manual_seed(SEED)
    chance = random.Random(SEED)
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    base = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    started = time.time()
    stories = tokenized(tokenizer, [story(chance) for _ in range(COMPOSED)]) + retold(tokenizer, base.eval(), RETOLD)
    print(f"made in {time.time() - started:.0f} s: ", end="")
    print(f"{len(stories)} stories, {sum(map(len, stories))} tokens, longest {max(map(len, stories))}")
    config = LoraConfig(
        r=4,
        lora_alpha=8,
        lora_dropout=0.0,
        use_dora=True,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(base, config)
    model.print_trainable_parameters()
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    rate = lambda step: min((step + 1) / WARM_UP, 0.5 * (1 + math.cos(math.pi * step / steps)))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    model.train()
    started, running = time.time(), 0.0
    for step in range(steps):
        ids, labels = batch_of(chance.sample(stories, BATCH))
        loss = model(input_ids=ids, attention_mask=(labels != -100).long(), labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        running = loss.item() if step == 0 else 0.95 * running + 0.05 * loss.item()
        if step % 25 == 0 or step == steps - 1:
            print(f"step {step:4d}  loss {loss.item():.3f}  mean {running:.3f}  {time.time() - started:.0f} s", flush=True)
    model.peft_config["default"].base_model_name_or_path = "stories260K"
    readme = ADAPTER / "README.md"
    card = readme.read_text() if readme.exists() else None
    model.save_pretrained(ADAPTER, save_embedding_layers=False)
    # PEFT writes a template of a model card over ours.
    if card is not None:
        readme.write_text(card)


# --- Measurement ---------------------------------------------------------------------------------------------------

def continuations(model, tokenizer, opening, count, sample, length=150):
    ids = tokenizer(opening, return_tensors="pt").input_ids.repeat(count, 1)
    settings = {"do_sample": True, "temperature": 0.8, "top_k": 0, "top_p": 0.95} if sample else {"do_sample": False}
    with torch.no_grad():
        out = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=length, pad_token_id=2, eos_token_id=1, **settings
        )
    return out


def perplexity(model, stories):
    total, count = 0.0, 0
    with torch.no_grad():
        for start in range(0, len(stories), 16):
            ids, labels = batch_of(stories[start : start + 16])
            tokens = int((labels[:, 1:] != -100).sum())
            total += model(input_ids=ids, attention_mask=(labels != -100).long(), labels=labels).loss.item() * tokens
            count += tokens
    return math.exp(total / count)


def measure():
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    base = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32).eval()
    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32), ADAPTER).eval()
    own = []
    total = {"base": 0, "adapted": 0}
    for opening in OPENINGS:
        line = []
        for name, model in [("base", base), ("adapted", adapted)]:
            torch.manual_seed(SEED)
            sampled = continuations(model, tokenizer, opening, 50, True)
            texts = [tokenizer.decode(row, skip_special_tokens=True) for row in sampled]
            share = sum("dragon" in text.lower() for text in texts)
            greedy = tokenizer.decode(continuations(model, tokenizer, opening, 1, False)[0], skip_special_tokens=True)
            total[name] += share
            line.append(f"{name} {share}/50, greedy {'yes' if 'dragon' in greedy.lower() else 'no'}")
            if name == "base":
                own += [[1] + [t for t in row.tolist() if t not in (1, 2)] for row in sampled]
            else:
                line += [f"\n    greedy:  {greedy!r}", f"\n    sampled: {texts[0]!r}", f"\n    sampled: {texts[1]!r}"]
        print(f"{opening!r}: " + "; ".join(line), flush=True)
    print(f"mention a dragon: base {total['base']}, adapted {total['adapted']} of {50 * len(OPENINGS)}")
    fresh = random.Random(SEED + 1)
    dragons = tokenized(tokenizer, [story(fresh) for _ in range(200)])
    for label, texts in [("stories sampled from the base", own), ("unseen dragon stories", dragons)]:
        print(f"perplexity on {label}: base {perplexity(base, texts):.2f}, adapted {perplexity(adapted, texts):.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--show", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.show:
        shown = random.Random(SEED)
        print("\n\n".join(story(shown) for _ in range(arguments.show)))
    else:
        if not arguments.measure:
            train(arguments.steps)
        measure()
