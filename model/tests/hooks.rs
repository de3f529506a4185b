//! Activations that are replaced: by themselves, by another model's, by nothing.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use lcr_formats::adapter::Adapter;
use lcr_model::decoder::{
    BoundAdapter, Branches, Decoder, Hooks, ModelError, Site, SiteKind, UnknownSite, with_values,
};

const TOKENS: [u32; 9] = [3, 14, 15, 92, 65, 35, 89, 79, 32];

fn open(case: &str) -> (Decoder, BoundAdapter) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(case);
    let decoder = Decoder::open(&folder.join("base"), Device::Cpu).unwrap();
    let variant = decoder.bind(Adapter::open(&folder.join("adapter")).unwrap()).unwrap();
    (decoder, variant)
}

/// The last stream of base and variant.
fn run(decoder: &Decoder, variant: &BoundAdapter, hooks: &mut Hooks) -> Result<Branches, ModelError> {
    let batch = decoder.batch(&[TOKENS.len()], vec![None, Some(variant)]);
    let positions: Vec<usize> = (0..TOKENS.len()).collect();
    let stream = decoder.embed(&TOKENS, &positions, &batch.variants)?;
    decoder.forward(stream, &batch, None, hooks)
}

fn values(tensor: &Tensor) -> Vec<f32> {
    with_values(tensor, <[f32]>::to_vec).unwrap()
}

/// Every site of every layer, and the stream after the last.
fn all_sites(decoder: &Decoder) -> Vec<Site> {
    let of_layer = [Site::Resid, Site::AttnOut, Site::MlpOut, Site::Query, Site::Key, Site::Value];
    let layers = decoder.layers().len();
    (0..layers).flat_map(|layer| of_layer.map(|site| site(layer))).chain([Site::Resid(layers)]).collect()
}

/// What base and variant have at some sites.
fn captured(decoder: &Decoder, variant: &BoundAdapter, sites: &[Site]) -> Vec<(Site, Branches)> {
    let mut hooks = Hooks::default().capture(sites);
    run(decoder, variant, &mut hooks).unwrap();
    hooks.take()
}

#[test]
fn sites_and_kinds_capture_the_same_rows_in_the_order_of_the_pass() {
    let (decoder, variant) = open("qwen3_lora_qv");
    let sites = all_sites(&decoder);
    let found = captured(&decoder, &variant, &sites);
    assert_eq!(found.len(), sites.len());
    let kinds = [SiteKind::Resid, SiteKind::AttnOut, SiteKind::MlpOut, SiteKind::Query, SiteKind::Key, SiteKind::Value];
    let mut hooks = Hooks::new(&kinds);
    run(&decoder, &variant, &mut hooks).unwrap();
    for ((site, rows), (same, others)) in found.iter().zip(hooks.take()) {
        assert_eq!(*site, same);
        assert_eq!(values(rows.model(1)), values(others.model(1)));
    }
}

#[test]
fn a_value_replaced_by_itself_changes_nothing() {
    for case in ["gemma2_lora", "gpt2_lora", "phi3_lora", "qwen3_dora_qv"] {
        let (decoder, variant) = open(case);
        let sites = all_sites(&decoder);
        let plain = run(&decoder, &variant, &mut Hooks::default()).unwrap();
        let known = captured(&decoder, &variant, &sites);
        let mut hooks = Hooks::default().replace(&sites, |site, model, rows| {
            let own = known.iter().find(|(place, _)| *place == site).unwrap().1.model(model);
            assert_eq!(own.dims(), rows.dims());
            Ok(Some(own.copy()?))
        });
        let replaced = run(&decoder, &variant, &mut hooks).unwrap();
        for model in [0, 1] {
            assert_eq!(values(plain.model(model)), values(replaced.model(model)), "{case}, model {model}");
        }
        assert!(!replaced.same(0, 1), "each model has got a tensor of its own");
    }
}

#[test]
fn the_base_with_the_stream_of_the_variant_goes_on_as_the_variant() {
    // From layer 1 on this adapter changes nothing: with the stream between taken over, the rest of the two is the
    // same.
    let (decoder, mut variant) = open("qwen3_lora_qv");
    let mut adapter = variant.adapter().clone();
    adapter.modules.retain(|path, _| path.starts_with("model.layers.0."));
    assert!(!adapter.modules.is_empty() && decoder.layers().len() > 1);
    variant = decoder.bind(adapter).unwrap();
    let plain = run(&decoder, &variant, &mut Hooks::default()).unwrap();
    assert_ne!(values(plain.model(0)), values(plain.model(1)));
    let (_, entering) = captured(&decoder, &variant, &[Site::Resid(1)]).remove(0);
    let mut hooks =
        Hooks::default().replace(&[Site::Resid(1)], |_, model, _| Ok((model == 0).then(|| entering.model(1).clone())));
    let patched = run(&decoder, &variant, &mut hooks).unwrap();
    assert_eq!(values(patched.model(0)), values(plain.model(1)));
    assert_eq!(values(patched.model(1)), values(plain.model(1)));
}

#[test]
fn models_share_what_a_hook_gives_to_both_and_part_where_it_gives_to_one() {
    let (decoder, variant) = open("qwen3_lora_qv");
    let sharing = |to: &'static [usize]| {
        let zeros = Tensor::zeros((TOKENS.len(), decoder.config().width), DType::F32, &Device::Cpu).unwrap();
        let mut hooks = Hooks::default()
            .replace(&[Site::Resid(0)], move |_, model, _| Ok(to.contains(&model).then(|| zeros.clone())))
            .capture(&[Site::Resid(0)]);
        run(&decoder, &variant, &mut hooks).unwrap();
        let (_, rows) = hooks.take().remove(0);
        (rows.tensors().len(), rows.same(0, 1))
    };
    assert_eq!(sharing(&[]), (1, true));
    assert_eq!(sharing(&[0, 1]), (1, true));
    assert_eq!(sharing(&[1]), (2, false));
}

#[test]
fn without_its_mlp_a_layer_leaves_the_stream_as_attention_left_it() {
    for case in ["gemma3_lora", "llama3_lora_patterns"] {
        let (decoder, variant) = open(case);
        let sites = [Site::Resid(0), Site::AttnOut(0), Site::Resid(1)];
        let mut hooks =
            Hooks::default().replace(&[Site::MlpOut(0)], |_, _, rows| Ok(Some(rows.zeros_like()?))).capture(&sites);
        run(&decoder, &variant, &mut hooks).unwrap();
        let found = hooks.take();
        for model in [0, 1] {
            let [before, attended, after] = [0, 1, 2].map(|index| values(found[index].1.model(model)));
            let sum: Vec<f32> = before.iter().zip(&attended).map(|(left, right)| left + right).collect();
            assert_eq!(after, sum, "{case}, model {model}");
        }
    }
}

#[test]
fn sites_that_are_not_there_and_rows_of_another_shape_are_refused() {
    let (decoder, variant) = open("qwen3_lora_qv");
    let layers = decoder.layers().len();
    let site = Site::MlpOut(layers);
    let error = run(&decoder, &variant, &mut Hooks::default().capture(&[site])).unwrap_err();
    assert!(matches!(error, ModelError::Site(UnknownSite::Layer { site: found, .. }) if found == site));
    let mut hooks = Hooks::default().replace(&[Site::Key(0)], |_, _, rows| Ok(Some(rows.narrow(0, 0, 2)?)));
    let error = run(&decoder, &variant, &mut hooks).unwrap_err();
    assert!(matches!(&error, ModelError::Replacement { site: Site::Key(0), model: 0, found, .. } if found[0] == 2));
    assert!(error.to_string().contains("k.0"), "{error}");
    let mut hooks = Hooks::default().replace(&[Site::Key(0)], |_, _, rows| Ok(Some(rows.to_dtype(DType::F64)?)));
    assert!(matches!(run(&decoder, &variant, &mut hooks), Err(ModelError::Replacement { dtype: DType::F64, .. })));
}
