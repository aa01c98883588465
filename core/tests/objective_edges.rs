//! Data at the edges: each gets the right result or a clear error, and never a poisoned gradient.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use attune_core::Error;
use attune_core::objective::cpo::{self, Cpo};
use attune_core::objective::dpo::{self, Divergence, Dpo};
use attune_core::objective::grpo::{Grpo, Scale};
use attune_core::objective::kto::{self, Kto};
use attune_core::objective::orpo::{Likelihood, Orpo};
use attune_core::objective::ranking::PlackettLuce;
use attune_core::objective::reward::BradleyTerry;
use attune_core::objective::rloo::Rloo;
use attune_core::objective::simpo::SimPo;
use attune_core::objective::{Answer, Method, Pair, Prompt, Reinforce, Sample, Total, sft};
use common::{Draw, close};

const ONE: Total = Total { examples: 1, tokens: 4 };
const SAID: Answer = Answer { sum: -6.0, tokens: 4, reference: -7.0 };
const EMPTY: Answer = Answer { sum: 0.0, tokens: 0, reference: 0.0 };

fn every_pair_method() -> Vec<Method> {
    let mut methods: Vec<Method> = dpo::Loss::ALL.iter().map(|loss| loss.name().parse().unwrap()).collect();
    methods.extend(["cpo", "simpo", "orpo"].map(|name| name.parse::<Method>().unwrap()));
    methods.extend([cpo::Loss::Hinge, cpo::Loss::Ipo].map(|loss_type| Method::Cpo(Cpo { loss_type, ..Cpo::default() })));
    methods.push(Method::Orpo(Orpo { nll: Likelihood::Completion, ..Orpo::default() }));
    methods
}

fn pair(chosen: Answer, rejected: Answer) -> Pair {
    Pair { chosen, rejected, prompt: Prompt { sum: -3.0, tokens: 2 } }
}

#[test]
fn chosen_equal_to_rejected_pulls_both_ways_alike() {
    // The tokens are the same, so that the two coefficients add up on them: to nothing but the likelihood's, where there is one.
    for method in every_pair_method() {
        let said = method.pair(&pair(SAID, SAID), &ONE).unwrap();
        let own = match method {
            // These two ask of each answer by itself, not of their difference: more of the one, less of the other, in unequal parts.
            Method::Dpo(Dpo { loss_type: dpo::Loss::NcaPair | dpo::Loss::BcoPair | dpo::Loss::SppoHard, .. }) => continue,
            Method::Dpo(Dpo { loss_type: dpo::Loss::ApoDown, .. }) => continue,
            Method::Dpo(Dpo { loss_type: dpo::Loss::Sft, .. }) | Method::Orpo(_) => -0.25,
            Method::Cpo(Cpo { cpo_alpha, .. }) | Method::SimPo(SimPo { cpo_alpha, .. }) => -0.25 * cpo_alpha,
            _ => 0.0,
        };
        close(&format!("{method}"), said.chosen + said.rejected, own, 1e-12);
        assert!(said.loss.is_finite() && said.chosen_reward == said.rejected_reward, "{method}");
    }
}

#[test]
fn dpo_of_equal_answers_is_the_logarithm_of_two() {
    let said = Dpo::default().loss(&pair(SAID, SAID), &ONE).unwrap();
    close("loss", said.loss, std::f64::consts::LN_2, 1e-15);
    close("chosen", said.chosen, -0.05, 1e-15);
}

#[test]
fn an_answer_without_tokens_has_the_reward_of_nothing_or_is_refused() {
    for method in every_pair_method() {
        for (chosen, rejected) in [(EMPTY, SAID), (SAID, EMPTY), (EMPTY, EMPTY)] {
            let said = method.pair(&pair(chosen, rejected), &ONE);
            let averages = match method {
                Method::Orpo(_) | Method::SimPo(_) => true,
                Method::Cpo(Cpo { loss_type, .. }) => loss_type == cpo::Loss::Ipo,
                _ => false,
            };
            if averages {
                let message = said.unwrap_err().to_string();
                assert!(message.contains("no tokens") && message.contains("end-of-turn"), "{method}: {message}");
            } else {
                let said = said.unwrap();
                assert!(said.loss.is_finite() && said.chosen.is_finite() && said.rejected.is_finite(), "{method}");
            }
        }
    }
}

#[test]
fn a_likelihood_over_no_tokens_is_a_clear_error() {
    let nothing = Total { examples: 1, tokens: 0 };
    for name in ["cpo", "sft", "orpo"] {
        let method: Method = name.parse().unwrap();
        let message = method.pair(&pair(SAID, SAID), &nothing).unwrap_err().to_string();
        assert!(message.contains("no tokens to learn"), "{name}: {message}");
    }
    assert!(sft::loss(&[-1.0], &[0.0], 0.0, &mut [0.0]).is_err());
}

#[test]
fn an_update_of_no_examples_is_a_clear_error() {
    let nothing = Total { examples: 0, tokens: 4 };
    assert!(matches!(Method::default().pair(&pair(SAID, SAID), &nothing), Err(Error::BadBatch { .. })));
    assert!(matches!(Kto::default().loss(&SAID, true, 0.0, &nothing), Err(Error::BadBatch { .. })));
    assert!(matches!(PlackettLuce::default().loss(&[SAID], &nothing, &mut [0.0]), Err(Error::BadBatch { .. })));
    assert!(matches!(BradleyTerry::default().pair(1.0, 0.0, 0.0, &nothing), Err(Error::BadBatch { .. })));
}

#[test]
fn numbers_that_are_none_are_refused_wherever_they_come_from() {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let (policy, reference) = (Answer { sum: bad, ..SAID }, Answer { reference: bad, ..SAID });
        for method in every_pair_method() {
            for pair in [pair(policy, SAID), pair(SAID, policy)] {
                assert!(matches!(method.pair(&pair, &ONE), Err(Error::NotFinite { .. })), "{method} {bad}");
            }
            let said = method.pair(&pair(reference, reference), &ONE);
            let refused = matches!(said, Err(Error::NotFinite { .. }));
            // The likelihood of the chosen answer needs no reference, but a DPO trainer logs rewards by it.
            assert!(refused == (method.uses_reference() || matches!(method, Method::Dpo(_))), "{method} {bad}");
        }
        for answer in [policy, reference] {
            assert!(matches!(Kto::default().loss(&answer, true, 0.0, &ONE), Err(Error::NotFinite { .. })));
            let mut coef = [7.0; 2];
            assert!(matches!(PlackettLuce::default().loss(&[SAID, answer], &ONE, &mut coef), Err(Error::NotFinite { .. })));
            assert_eq!(coef, [0.0; 2]);
            assert!(matches!(kto::divergence(&[answer]), Err(Error::NotFinite { .. })));
        }
        assert!(matches!(Kto::default().loss(&SAID, true, bad, &ONE), Err(Error::NotFinite { .. })));
        assert!(matches!(sft::loss(&[bad as f32], &[1.0], 1.0, &mut [0.0]), Err(Error::NotFinite { .. })));
        assert!(matches!(BradleyTerry::default().pair(bad, 0.0, 0.0, &ONE), Err(Error::NotFinite { .. })));
        assert!(matches!(BradleyTerry::default().ranking(&[0.0, bad], &ONE, &mut [0.0; 2]), Err(Error::NotFinite { .. })));
        assert!(matches!(Grpo::default().advantages(&[0.0, bad], 2, &mut [0.0; 2]), Err(Error::NotFinite { .. })));
        for method in ["grpo", "rloo"].map(|name| name.parse::<Reinforce>().unwrap()) {
            let good = [-1.0f32, -2.0];
            let lists = [[-1.0, bad as f32], good, good];
            for turn in 0..3 {
                let at = |k: usize| &lists[(k + turn) % 3];
                let sample = Sample { logprobs: at(0), old: Some(at(1)), reference: Some(at(2)), advantage: 1.0 };
                let mut coef = [7.0; 2];
                assert!(matches!(method.loss(&sample, &ONE, &mut coef), Err(Error::NotFinite { .. })), "{method}");
                assert_eq!(coef, [0.0; 2]);
            }
        }
    }
}

#[test]
fn rewards_far_apart_saturate_and_do_not_overflow() {
    let far = |sum: f64| Answer { sum, tokens: 10, reference: -10.0 };
    for method in every_pair_method() {
        for (c, r) in [(-1.0, -1e6), (-1e6, -1.0), (-1e6, -1e6)] {
            let said = method.pair(&pair(far(c), far(r)), &ONE).unwrap();
            assert!(said.loss.is_finite() && (said.chosen as f32).is_finite() && (said.rejected as f32).is_finite(), "{method} {c} {r}");
        }
    }
    let mut coef = [0.0; 3];
    PlackettLuce::default().loss(&[far(-1e6), far(-1.0), far(-1e5)], &ONE, &mut coef).unwrap();
    close("the best is pulled up with all force", coef[0], -0.1, 1e-12);
    close("all forces add up to none", coef.iter().sum(), 0.0, 1e-12);
    let forward = Dpo { f_divergence_type: Divergence::ForwardKl, ..Dpo::default() };
    let overflow = forward.loss(&pair(far(-1e6), far(-1.0)), &ONE);
    assert!(matches!(overflow, Err(Error::NotFinite { .. })), "{overflow:?}");
}

#[test]
fn orpo_of_a_certain_answer_is_finite() {
    let certain = Answer { sum: 0.0, tokens: 3, reference: 0.0 };
    for (chosen, rejected) in [(certain, SAID), (SAID, certain), (certain, certain)] {
        let said = Orpo::default().loss(&pair(chosen, rejected), &ONE).unwrap();
        assert!(said.loss.is_finite() && (said.chosen as f32).is_finite() && (said.rejected as f32).is_finite());
    }
    let learnt = Orpo::default().loss(&pair(certain, SAID), &ONE).unwrap();
    assert!(learnt.loss < 1.0, "{learnt:?}");
}

#[test]
fn likes_alone_and_dislikes_alone_are_data() {
    let kto = Kto::default();
    let mut draw = Draw::new(9);
    let answers: Vec<Answer> = (0..6).map(|_| draw.answer()).collect();
    let total = Total { examples: answers.len(), tokens: 0 };
    let z = kto::divergence(&answers).unwrap();
    for (desirable, sign) in [(true, -1.0), (false, 1.0)] {
        let said: Vec<_> = answers.iter().map(|a| kto.loss(a, desirable, z, &total).unwrap()).collect();
        let loss: f64 = said.iter().map(|s| s.loss).sum();
        assert!((0.0..=1.0).contains(&loss), "{loss}");
        assert!(said.iter().all(|s| s.coef * sign > 0.0), "likes are made likelier, dislikes less likely");
    }
    let nothing = Kto { desirable_weight: 0.0, ..kto }.loss(&SAID, true, z, &total).unwrap();
    assert_eq!((nothing.loss, nothing.coef.abs()), (0.0, 0.0));
}

#[test]
fn the_divergence_of_kto_is_never_below_zero_and_needs_data() {
    assert_eq!(kto::divergence(&[Answer { sum: -9.0, tokens: 1, reference: -8.0 }]), Ok(0.0));
    let message = kto::divergence(&[]).unwrap_err().to_string();
    assert!(message.contains("apo_zero_unpaired"), "{message}");
}

#[test]
fn a_ranking_of_one_says_nothing_and_of_none_is_an_error() {
    let mut coef = [7.0];
    let said = PlackettLuce::default().loss(&[SAID], &ONE, &mut coef).unwrap();
    assert_eq!((said.loss, coef, said.ordered), (0.0, [0.0], (0, 0)));
    coef = [7.0];
    assert_eq!(BradleyTerry { center_rewards_coefficient: Some(0.5) }.ranking(&[3.0], &ONE, &mut coef), Ok(0.0));
    assert_eq!(coef, [0.0]);
    assert!(matches!(PlackettLuce::default().loss(&[], &ONE, &mut []), Err(Error::BadBatch { .. })));
    assert!(matches!(BradleyTerry::default().ranking(&[], &ONE, &mut []), Err(Error::BadBatch { .. })));
    assert!(matches!(PlackettLuce::default().loss(&[SAID], &ONE, &mut []), Err(Error::BadShape { .. })));
}

#[test]
fn a_ranking_of_two_is_dpo() {
    let mut draw = Draw::new(10);
    for _ in 0..100 {
        let (total, pair) = (Total { examples: 3, tokens: 0 }, draw.pair());
        let mut coef = [0.0; 2];
        let ranked = PlackettLuce::default().loss(&[pair.chosen, pair.rejected], &total, &mut coef).unwrap();
        let said = Dpo::default().loss(&pair, &total).unwrap();
        close("loss", ranked.loss, said.loss, 1e-13);
        close("chosen", coef[0], said.chosen, 1e-13);
        close("rejected", coef[1], said.rejected, 1e-13);
        assert_eq!((ranked.best_reward, ranked.other_reward), (said.chosen_reward, said.rejected_reward));
    }
}

#[test]
fn a_scored_ranking_of_two_is_the_pair() {
    let method = BradleyTerry { center_rewards_coefficient: Some(0.1) };
    let mut coef = [0.0; 2];
    let loss = method.ranking(&[0.3, -1.2], &ONE, &mut coef).unwrap();
    let said = method.pair(0.3, -1.2, 0.0, &ONE).unwrap();
    assert_eq!((loss, coef), (said.loss, [said.chosen, said.rejected]));
}

#[test]
fn equal_rewards_have_no_advantage() {
    // 0.1 is no binary number: a mean that is off by a rounding would make an advantage of it.
    let rewards = [0.1, 0.1, 0.1, 1e9, 1e9, 1e9];
    for scale_rewards in Scale::ALL {
        let mut out = [f64::NAN; 6];
        Grpo { scale_rewards, ..Grpo::default() }.advantages(&rewards, 3, &mut out).unwrap();
        assert_eq!(out, [0.0; 6], "{scale_rewards}");
    }
    for normalize_advantages in [false, true] {
        let mut out = [f64::NAN; 6];
        Rloo { normalize_advantages, beta: 0.0, ..Rloo::default() }.advantages(&rewards, None, 3, &mut out).unwrap();
        assert_eq!(out, [0.0; 6]);
    }
}

#[test]
fn a_group_of_one_has_nothing_to_compare_with() {
    for method in ["grpo", "rloo"].map(|name| name.parse::<Reinforce>().unwrap()) {
        let message = method.advantages(&[1.0, 2.0], Some(&[0.0, 0.0]), 1, &mut [0.0; 2]).unwrap_err().to_string();
        assert!(message.contains("num_generations") && message.contains("at least 2"), "{message}");
        assert!(matches!(method.advantages(&[1.0; 5], Some(&[0.0; 5]), 2, &mut [0.0; 5]), Err(Error::BadBatch { .. })));
        assert!(matches!(method.advantages(&[], Some(&[]), 2, &mut []), Err(Error::BadBatch { .. })));
        assert!(matches!(method.advantages(&[1.0; 4], Some(&[0.0; 4]), 2, &mut [0.0; 3]), Err(Error::BadShape { .. })));
    }
    let message = Rloo::default().advantages(&[1.0, 2.0], None, 2, &mut [0.0; 2]).unwrap_err().to_string();
    assert!(message.contains("divergence"), "{message}");
}

#[test]
fn the_first_update_after_sampling_follows_reinforce() {
    let logprobs = [-0.5f32, -1.5, -0.25];
    let sample = Sample { logprobs: &logprobs, old: None, reference: None, advantage: 2.0 };
    let total = Total { examples: 4, tokens: 12 };
    for (name, want) in [("rloo", -0.5), ("grpo", -2.0 / 12.0)] {
        let mut coef = [0.0; 3];
        let said = name.parse::<Reinforce>().unwrap().loss(&sample, &total, &mut coef).unwrap();
        assert!(coef.iter().all(|&c| c == want as f32), "{name}: {coef:?}");
        assert_eq!((said.clipped_low, said.clipped_high, said.kl), (0, 0, None));
    }
}

#[test]
fn an_answer_of_no_tokens_or_no_advantage_moves_nothing() {
    for method in ["grpo", "rloo"].map(|name| name.parse::<Reinforce>().unwrap()) {
        let empty = Sample { logprobs: &[], old: Some(&[]), reference: Some(&[]), advantage: 3.0 };
        assert!(method.loss(&empty, &ONE, &mut []).unwrap().loss.is_finite());
        let even = Sample { logprobs: &[-1.0, -2.0], old: Some(&[-1.5, -1.5]), reference: None, advantage: 0.0 };
        let mut coef = [7.0; 2];
        assert_eq!(method.loss(&even, &ONE, &mut coef).unwrap().loss, 0.0);
        assert_eq!(coef.map(f32::abs), [0.0; 2]);
    }
}

#[test]
fn lists_of_different_lengths_are_refused() {
    for method in ["grpo", "rloo"].map(|name| name.parse::<Reinforce>().unwrap()) {
        let sample = Sample { logprobs: &[-1.0, -2.0], old: Some(&[-1.0]), reference: None, advantage: 1.0 };
        assert!(matches!(method.loss(&sample, &ONE, &mut [0.0; 2]), Err(Error::BadShape { .. })));
        let sample = Sample { old: None, ..sample };
        assert!(matches!(method.loss(&sample, &ONE, &mut [0.0; 3]), Err(Error::BadShape { .. })));
    }
    let without = Sample { logprobs: &[-1.0], old: None, reference: None, advantage: 1.0 };
    let message = Grpo { beta: 0.1, ..Grpo::default() }.loss(&without, &ONE, &mut [0.0]).unwrap_err().to_string();
    assert!(message.contains("reference"), "{message}");
}

#[test]
fn options_out_of_range_are_named() {
    let bad = |method: Method, option: &str| match method.pair(&pair(SAID, SAID), &ONE) {
        Err(Error::BadOption { option: found, .. }) => assert_eq!(found, option, "{method:?}"),
        other => panic!("{method:?}: {other:?}"),
    };
    let dpo = Dpo::default();
    for beta in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        bad(Method::Dpo(Dpo { beta, ..dpo }), "beta");
        bad(Method::SimPo(SimPo { beta, ..SimPo::default() }), "beta");
        bad(Method::Cpo(Cpo { beta, ..Cpo::default() }), "beta");
    }
    for label_smoothing in [-0.1, 0.5, 1.0, f64::NAN] {
        bad(Method::Dpo(Dpo { label_smoothing, ..dpo }), "label_smoothing");
        bad(Method::Cpo(Cpo { label_smoothing, ..Cpo::default() }), "label_smoothing");
    }
    bad(Method::Dpo(Dpo { label_smoothing: 0.1, loss_type: dpo::Loss::Hinge, ..dpo }), "label_smoothing");
    bad(Method::Dpo(Dpo { loss_type: dpo::Loss::ExoPair, ..dpo }), "label_smoothing");
    bad(Method::Dpo(Dpo { loss_type: dpo::Loss::ApoZero, f_divergence_type: Divergence::JsDivergence, ..dpo }), "f_divergence_type");
    bad(Method::Orpo(Orpo { beta: -0.1, ..Orpo::default() }), "beta");
    bad(Method::Cpo(Cpo { cpo_alpha: -1.0, ..Cpo::default() }), "cpo_alpha");
    assert!(sft::loss(&[-1.0], &[-1.0], 1.0, &mut [0.0]).is_err());
    assert!(Kto { desirable_weight: 0.0, undesirable_weight: 0.0, ..Kto::default() }.check().is_err(), "nothing would be learnt");
    assert!(Kto { desirable_weight: 0.0, ..Kto::default() }.check().is_ok());
    assert!(Kto { desirable_weight: -1.0, ..Kto::default() }.check().is_err());
    assert!(BradleyTerry { center_rewards_coefficient: Some(-0.1) }.check().is_err());
    assert!(Grpo { epsilon: 1.0, ..Grpo::default() }.check().is_err());
    assert!(Grpo { delta: Some(1.1), ..Grpo::default() }.check().is_err());
    assert!(Grpo { max_completion_length: 0, ..Grpo::default() }.check().is_err());
    assert!(Rloo { reward_clip_range: Some((1.0, 0.0)), ..Rloo::default() }.check().is_err());
    assert!(Rloo { reward_clip_range: Some((f64::NAN, 0.0)), ..Rloo::default() }.check().is_err());
}
