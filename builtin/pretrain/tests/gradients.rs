//! The fused operations and the whole model against finite differences.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use attune_builtin::Rng;
use attune_pretrain::fused::{CausalSoftmax, CrossEntropy, RmsNorm, Rope, SwiGlu};
use attune_pretrain::model::{Model, Shape, normal};
use candle_core::{Device, Tensor, Var};

/// Half of a central difference.
const STEP: f32 = 2e-3;

fn drawn(dims: &[usize], stream: u64) -> Var {
    let mut rng = Rng::new(5, stream);
    let values: Vec<f32> = (0..dims.iter().product()).map(|_| normal(&mut rng)).collect();
    Var::from_vec(values, dims, &Device::Cpu).unwrap()
}

/// The largest difference between `loss`'s gradient by `var` and central differences, over the largest gradient.
fn mismatch(var: &Var, loss: impl Fn() -> Tensor) -> f32 {
    let gradient = loss().backward().unwrap().get(var).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let at = var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (mut worst, mut largest) = (0.0f32, 0.0f32);
    for (i, g) in gradient.iter().enumerate() {
        let value = |step: f32| {
            let mut moved = at.clone();
            moved[i] += step;
            var.set(&Tensor::from_vec(moved, var.shape(), &Device::Cpu).unwrap()).unwrap();
            loss().to_scalar::<f32>().unwrap()
        };
        let difference = (value(STEP) - value(-STEP)) / (2.0 * STEP);
        worst = worst.max((difference - g).abs());
        largest = largest.max(g.abs());
    }
    var.set(&Tensor::from_vec(at, var.shape(), &Device::Cpu).unwrap()).unwrap();
    worst / largest
}

/// A loss that weighs every element of `y` differently.
fn weighed(y: &Tensor) -> Tensor {
    let weights = drawn(y.dims(), 99);
    (y * weights.as_tensor()).unwrap().sum_all().unwrap()
}

#[test]
fn gradients_of_the_fused_operations_agree_with_finite_differences() {
    let (x, w, up) = (drawn(&[4, 6], 0), drawn(&[6], 1), drawn(&[4, 6], 2));
    let heads = drawn(&[1, 3, 2, 4], 3);
    let scores = drawn(&[2, 6, 3], 4);
    let norm = || weighed(&x.apply_op2(w.as_tensor(), RmsNorm(1e-5)).unwrap());
    let gated = || weighed(&x.apply_op2(up.as_tensor(), SwiGlu).unwrap());
    let entropy = || x.apply_op1(CrossEntropy::new(vec![Some(1), None, Some(5), Some(0)])).unwrap();
    let checks = [
        ("norm by x", mismatch(&x, norm)),
        ("norm by w", mismatch(&w, norm)),
        ("swiglu by gate", mismatch(&x, gated)),
        ("swiglu by up", mismatch(&up, gated)),
        ("rope", mismatch(&heads, || weighed(&heads.apply_op1(Rope { base: 100.0, sign: 1.0 }).unwrap()))),
        ("softmax", mismatch(&scores, || weighed(&scores.apply_op1(CausalSoftmax(0.5)).unwrap()))),
        ("cross-entropy", mismatch(&x, entropy)),
    ];
    for (name, worst) in checks {
        assert!(worst < 5e-3, "{name}: {worst}");
    }
    // The comparison does see a wrong gradient: the loss of a detached copy is flat in it, but its value moves.
    let detached = || (weighed(&x.detach()) + weighed(x.as_tensor()).affine(1e-3, 0.0).unwrap()).unwrap();
    assert!(mismatch(&x, detached) > 0.1);
}

#[test]
fn gradients_of_the_model_agree_with_finite_differences() {
    let shape = Shape { vocabulary: 11, width: 8, layers: 2, heads: 2, kv_heads: 1, head_width: 4, feed_forward: 8 };
    let weights = shape.init(3).unwrap();
    // Embeddings of 0.05 would be normalised to 1: the loss would bend too much within a difference.
    let embedding = &weights[0].1;
    embedding.set(&embedding.affine(10.0, 0.0).unwrap()).unwrap();
    let model = Model::new(shape, &weights).unwrap();
    let ids = Tensor::new(&[[1u32, 4, 7, 2], [9, 0, 3, 3]], &Device::Cpu).unwrap();
    let targets = [Some(4), None, Some(2), Some(5), Some(0), Some(3), None, Some(8)];
    for name in [
        "token_embd.weight",
        "blk.0.attn_q.weight",
        "blk.0.attn_k.weight",
        "blk.0.attn_v.weight",
        "blk.1.ffn_up.weight",
        "blk.0.attn_norm.weight",
    ] {
        let (_, var) = weights.iter().find(|(other, _)| other == name).unwrap();
        let worst = mismatch(var, || model.loss(&ids, &targets).unwrap());
        assert!(worst < 2e-2, "{name}: {worst}");
    }
}
