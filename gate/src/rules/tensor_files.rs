//! Rules on safetensors: whether the format holds, and what its tensors and header carry.

use lcr_scan::Check;

use crate::rules::{Judge, RestsOn, Rule, Severity, Stage};

/// Every rule of the family.
pub(crate) static RULES: &[&Rule] = &[
    &HEADER_SIZE,
    &HEADER_SYNTAX,
    &TRUNCATED,
    &TENSOR_LAYOUT,
    &OVERLAPPING_TENSORS,
    &UNCLAIMED_BYTES,
    &NON_FINITE,
    &METADATA,
    &UNANALYSED_TENSOR,
];

/// What these rules share.
const FAMILY: Rule = Rule { stage: Stage::Files, level: Severity::Deny, rests_on: RestsOn::ItsFile, ..Rule::NONE };

pub(crate) static HEADER_SIZE: Rule = Rule {
    code: "header-size",
    title: "A safetensors header that is too long",
    why: "The header claims more than 8 MiB, where a thousand tensors take about 100 KB. A loader that believes \
          the claim allocates that much memory, and a long header is a place to hide data. Nothing behind it was \
          read.",
    example: "The first eight bytes of the file claim a header of 2 GiB.",
    accept: "Save the tensors again with the safetensors library. A waiver by digest with an owner and an expiry \
             date leaves every tensor of the file unread, so it needs another analysis to stand on.",
    judges: &[Judge::Scan(Check::HeaderSize)],
    ..FAMILY
};

pub(crate) static HEADER_SYNTAX: Rule = Rule {
    code: "header-syntax",
    title: "A safetensors header that breaks the format",
    why: "The header is not the JSON that the safetensors format asks for. Lenient readers may still load such a \
          file, each in its own way, so that different programs see different tensors. No tensor of the file was \
          analysed.",
    example: "The header names one tensor twice with different offsets, or an entry lacks its offsets.",
    accept: "Save the tensors again with the safetensors library and scan the new file. Do not waive it: there \
             is nothing that was read and could be accepted.",
    judges: &[Judge::Scan(Check::HeaderSyntax)],
    ..FAMILY
};

pub(crate) static TRUNCATED: Rule = Rule {
    code: "truncated",
    title: "A file shorter than its header says",
    why: "The header places tensors beyond the end of the file. Mostly a transfer was interrupted, but a file \
          that was cut also evades a check of its content. Its tensors were not read.",
    example: "The header ends its last tensor at byte 52,428,800, and the file has 31,457,280 bytes.",
    accept: "Download it again and compare its size and digest with the publisher's. A truncated file is of no \
             use, so there is nothing to waive.",
    judges: &[Judge::Scan(Check::Truncated)],
    ..FAMILY
};

pub(crate) static TENSOR_LAYOUT: Rule = Rule {
    code: "tensor-layout",
    title: "A tensor whose description contradicts itself",
    why: "The dtype and the shape of a tensor ask for another number of bytes than the header assigns to it, its \
          offsets run backwards, or its dtype is unknown to the format. Readers differ in which of these they \
          believe, and careless ones read beyond the tensor.",
    example: "A tensor of dtype F32 and shape [8, 64] is given 1,024 bytes where 2,048 are needed.",
    accept: "Save the tensors again from the training run. If the file cannot be produced anew, ask where it \
             came from; a waiver would accept tensors that no rule has looked at.",
    judges: &[Judge::Scan(Check::TensorLayout)],
    ..FAMILY
};

pub(crate) static OVERLAPPING_TENSORS: Rule = Rule {
    code: "overlapping-tensors",
    title: "Tensors that share bytes",
    why: "Two tensors of the file claim the same bytes, which the format forbids. Ordinary tools do not write \
          this. It allows a file that is also valid under another format, or tensors that change together when \
          one is edited.",
    example: "`lora_A.weight` spans data bytes 0 to 4096, and `lora_B.weight` begins at byte 2048.",
    accept: "Save the tensors again with the safetensors library; tied tensors have to be stored once or copied. \
             Refuse the file if its publisher cannot explain it, since a waiver would leave it unanalysed.",
    judges: &[Judge::Scan(Check::OverlappingTensors)],
    ..FAMILY
};

pub(crate) static UNCLAIMED_BYTES: Rule = Rule {
    code: "unclaimed-bytes",
    title: "Bytes that belong to no tensor",
    why: "The file holds bytes that no tensor claims, between tensors or at its end. The format forbids such \
          gaps because they hide data: a second file, a payload for another program, or a mark of origin. What \
          the bytes are is not analysed.",
    example: "A zip archive of 3 MB is appended after the last tensor.",
    accept: "Save the tensors again, which drops the bytes, and look at what they were. A waiver by digest with \
             an owner and an expiry date means that tensors and gap alike pass without analysis.",
    judges: &[Judge::Scan(Check::UnclaimedBytes)],
    ..FAMILY
};

pub(crate) static NON_FINITE: Rule = Rule {
    code: "non-finite",
    title: "NaN or infinity in a tensor",
    why: "A tensor holds NaN or infinity. One such value normally turns every output of the model into NaN, and \
          statistics over the tensor mean nothing. It points to a diverged training run, a bad conversion, or \
          sabotage, and the rule cannot tell which.",
    example: "Element 5120 of `layers.7.self_attn.v_proj.lora_B.weight` is NaN.",
    accept: "Take an earlier checkpoint or train again with a lower learning rate. Setting the value to zero \
             hides the cause. A waiver by digest with an owner and an expiry date suits test material only.",
    judges: &[Judge::Scan(Check::NonFinite)],
    ..FAMILY
};

pub(crate) static METADATA: Rule = Rule {
    code: "metadata",
    title: "Unusual metadata in a safetensors header",
    level: Severity::Warn,
    why: "The header's `__metadata__` is longer than 16 KiB, or holds program text, hidden characters or 512 and \
          more characters of encoded data. No loader needs that, and other programs may pick it up from there. \
          Some training tools store all their settings here, which is long but harmless.",
    example: "The key `note` holds `__import__('os').system(…)`.",
    accept: "Save the file without metadata (the note `format: pt` is enough). If it records how the adapter was \
             trained, read it and waive it by digest with an owner and an expiry date.",
    judges: &[Judge::Scan(Check::Metadata)],
    ..FAMILY
};

pub(crate) static UNANALYSED_TENSOR: Rule = Rule {
    code: "unanalysed-tensor",
    title: "A tensor that no check looked into",
    why: "A tensor is stored in a form that the scan does not read: a dtype other than F32, F16 and BF16, or \
          inside a pickle. A loader may use it all the same. A pass would therefore say nothing about this part \
          of the adapter.",
    example: "`lora_A.weight` is stored as F8_E4M3, or the adapter's only weights are in `adapter_model.bin`.",
    accept: "Store the adapter in safetensors as F32, F16 or BF16. If the dtype has to stay, waive it by digest \
             with an owner and an expiry date, and have the tensor examined by other means.",
    rests_on: RestsOn::Adapter,
    judges: &[Judge::Scan(Check::UnanalysedTensor)],
    ..FAMILY
};
