//! Methods of PEFT that are neither LoRA nor DoRA: what each does, and whether PEFT can turn it into LoRA.

/// Methods that add a change to a weight, which `peft.convert_to_lora` can approximate.
const CONVERTIBLE: [&str; 15] = [
    "BONE",
    "C3A",
    "DELORA",
    "FOURIERFT",
    "GRALORA",
    "LOHA",
    "LOKR",
    "MISS",
    "PSOFT",
    "RANDLORA",
    "TINYLORA",
    "UNILORA",
    "VBLORA",
    "VERA",
    "WAVEFT",
];
/// Methods that change weights in ways that PEFT does not convert.
const MERGEABLE: [&str; 19] = [
    "ADALORA",
    "ADAMSS",
    "BEFT",
    "BOFT",
    "DEFT",
    "FROD",
    "GLORA",
    "HIRA",
    "HRA",
    "IA3",
    "LILY",
    "LN_TUNING",
    "OFT",
    "OSF",
    "PEANUT",
    "PVERA",
    "ROAD",
    "SHIRA",
    "SUPERTUNING",
];
/// Methods that put learned vectors before the prompt, or beside keys and values.
const PROMPTS: [&str; 7] =
    ["ADAPTION_PROMPT", "CARTRIDGE", "CPT", "MULTITASK_PROMPT_TUNING", "PREFIX_TUNING", "PROMPT_TUNING", "P_TUNING"];

/// The way out for an adapter whose `peft_type` is `method`.
pub(crate) fn way_out(method: &str) -> &'static str {
    let known = |list: &[&str]| list.contains(&method);
    match method {
        _ if known(&CONVERTIBLE) => {
            "PEFT turns it into LoRA: load it on its base and call peft.save_as_lora(folder, model, rank) (the \
             function behind it is peft.convert_to_lora; PEFT 0.19 or newer), then give that folder. The LoRA is an \
             approximation: take a rank at which it behaves like the original"
        }
        _ if known(&MERGEABLE) => {
            "PEFT does not convert it to LoRA. Merge it into its base (merge_and_unload) and judge the merged model, \
             or train with LoRA"
        }
        _ if known(&PROMPTS) => {
            "It learns vectors that are put before the text or beside keys and values and changes no weight, so there \
             is nothing to compare with the base's weights"
        }
        "XLORA" | "POLY" => "It mixes several adapters by a learned gate: give each LoRA adapter by itself",
        "TRAINABLE_TOKENS" => "It replaces single rows of the embedding, which are not read here yet",
        "SHADOW" => "It runs a second, small model beside the base, which is no change of weights",
        _ if method.eq_ignore_ascii_case("LORA") => "PEFT knows it only as \"LORA\", in capitals: correct the config",
        _ if known_in_capitals(method) => "PEFT knows its methods only in capitals, and would not load this config",
        _ => "No method of that name is known to PEFT 0.21: use the config that PEFT wrote",
    }
}

fn known_in_capitals(method: &str) -> bool {
    let capitals = method.to_uppercase();
    [&CONVERTIBLE[..], &MERGEABLE[..], &PROMPTS[..]].iter().any(|list| list.contains(&capitals.as_str()))
}
