//! The imports that files of tensors need.

/// Functions of `torch._utils` that put a tensor together from a storage. None of them imports or evaluates anything.
const TORCH_REBUILD: &[&str] = &[
    "_rebuild_device_tensor_from_cpu_tensor",
    "_rebuild_device_tensor_from_numpy",
    "_rebuild_meta_tensor_no_storage",
    "_rebuild_parameter",
    "_rebuild_parameter_with_state",
    "_rebuild_qtensor",
    "_rebuild_sparse_tensor",
    "_rebuild_tensor",
    "_rebuild_tensor_v2",
    "_rebuild_tensor_v3",
    "_rebuild_wrapper_subclass",
];

/// What `torch` itself offers beside storages and tensors of a type: dtypes, quantisation schemes, small values.
const TORCH: &[&str] = &[
    "Size",
    "Tensor",
    "bcomplex32",
    "bfloat16",
    "bits16",
    "bits1x8",
    "bits2x4",
    "bits4x2",
    "bits8",
    "bool",
    "complex128",
    "complex32",
    "complex64",
    "device",
    "float16",
    "float32",
    "float4_e2m1fn_x2",
    "float64",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
    "int1",
    "int16",
    "int2",
    "int3",
    "int32",
    "int4",
    "int5",
    "int6",
    "int64",
    "int7",
    "int8",
    "per_channel_affine",
    "per_channel_affine_float_qparams",
    "per_channel_symmetric",
    "per_tensor_affine",
    "per_tensor_symmetric",
    "qint32",
    "qint8",
    "quint2x4",
    "quint4x2",
    "quint8",
    "uint1",
    "uint16",
    "uint2",
    "uint3",
    "uint32",
    "uint4",
    "uint5",
    "uint6",
    "uint64",
    "uint7",
    "uint8",
];

/// Element types in the names of storages and legacy tensors: `FloatStorage`, `HalfTensor`.
const ELEMENTS: &[&str] = &[
    "BFloat16",
    "Bool",
    "Byte",
    "Char",
    "ComplexDouble",
    "ComplexFloat",
    "Double",
    "Float",
    "Half",
    "Int",
    "Long",
    "QInt32",
    "QInt8",
    "QUInt2x4",
    "QUInt4x2",
    "QUInt8",
    "Short",
    "Untyped",
];

/// Whether files of tensors need the import of `name` from `module`.
///
/// Compared exactly: a dotted name reaches through attributes (`torch`, `storage._load_from_bytes`) and is never
/// safe. The list is torch's own for `weights_only`, with numpy's arrays. It says what is needed, not that loading is
/// harmless: numpy takes a dtype's flags from the file, and a lie there breaks memory. Left out on purpose are
/// `torch.storage._load_from_bytes`, which unpickles again, `collections.defaultdict` and `functools.partial`, which
/// call what they are given, and `copyreg._reconstructor`, which no tensor needs.
pub(crate) fn is_known_safe(module: &str, name: &str) -> bool {
    match module {
        "torch._utils" => TORCH_REBUILD.contains(&name),
        "torch" => TORCH.contains(&name) || typed(name, "Storage") || typed(name, "Tensor"),
        "torch.cuda" => typed(name, "Storage") || typed(name, "Tensor"),
        "torch.sparse" | "torch.cuda.sparse" => typed(name, "Tensor"),
        "torch.storage" => matches!(name, "TypedStorage" | "UntypedStorage"),
        "torch.nn.parameter" => name == "Parameter",
        // Calls its first argument, which is an import of the same pickle and is judged there.
        "torch._tensor" => name == "_rebuild_from_type_v2",
        "torch.serialization" => name == "_get_layout",
        "collections" => matches!(name, "OrderedDict" | "Counter"),
        // Python 2's name of the module, which protocols 0 to 2 write.
        "builtins" | "__builtin__" => matches!(name, "set" | "frozenset" | "complex" | "bytearray"),
        // How protocols 0 to 2 write bytes. It may only import from the standard `encodings` package.
        "_codecs" => name == "encode",
        "numpy" => matches!(name, "ndarray" | "dtype"),
        "numpy.core.multiarray" | "numpy._core.multiarray" => matches!(name, "_reconstruct" | "scalar"),
        "numpy.core.numeric" | "numpy._core.numeric" => name == "_frombuffer",
        _ => false,
    }
}

/// Whether `torch` has a storage of this name.
pub(super) fn is_storage(name: &str) -> bool {
    typed(name, "Storage")
}

/// Whether a name of `torch` is that of a type of numbers.
pub(super) fn is_number_type(name: &str) -> bool {
    const FAMILIES: [&str; 6] = ["bool", "bfloat", "complex", "float", "int", "uint"];
    TORCH.contains(&name) && FAMILIES.iter().any(|family| name.starts_with(family))
}

fn typed(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix).is_some_and(|element| ELEMENTS.contains(&element))
}
