//! Steps: AdamW with warm-up, cosine decay, and clipping by the global norm.

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use candle_nn::optim::{AdamW, Optimizer, ParamsAdamW};

use crate::Result;

/// How a training run goes.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// Steps in all.
    pub steps: usize,
    /// Steps of linear warm-up.
    pub warmup: usize,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// The last one, as a share of the highest.
    pub floor: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Adam's second beta.
    pub beta2: f64,
    /// The gradient's norm is brought down to this.
    pub max_norm: f64,
}

/// An optimiser on its way along a schedule.
pub struct Trainer {
    schedule: Schedule,
    step: usize,
    decayed: (Vec<Var>, AdamW),
    plain: (Vec<Var>, AdamW),
}

impl Trainer {
    /// Tunes `vars`; vectors are not decayed.
    ///
    /// # Errors
    /// Where candle fails.
    pub fn new(vars: Vec<Var>, schedule: Schedule) -> Result<Self> {
        let (matrices, vectors): (Vec<Var>, Vec<Var>) = vars.into_iter().partition(|var| var.dims().len() > 1);
        let optimiser = |vars: &[Var], weight_decay: f64| {
            AdamW::new(vars.to_vec(), ParamsAdamW { lr: 0.0, beta1: 0.9, beta2: schedule.beta2, eps: 1e-8, weight_decay })
        };
        let decayed = optimiser(&matrices, schedule.weight_decay)?;
        let plain = optimiser(&vectors, 0.0)?;
        Ok(Self { schedule, step: 0, decayed: (matrices, decayed), plain: (vectors, plain) })
    }

    /// The learning rate of the next step.
    #[must_use]
    pub fn learning_rate(&self) -> f64 {
        let Schedule { steps, warmup, learning_rate, floor, .. } = self.schedule;
        if self.step < warmup {
            return learning_rate * (self.step + 1) as f64 / warmup as f64;
        }
        let done = (self.step - warmup) as f64 / steps.saturating_sub(warmup).max(1) as f64;
        learning_rate * (floor + (1.0 - floor) * 0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos()))
    }

    /// One step down the mean gradient of as many losses as `losses` makes, a thread each. Gives their mean, and the gradient's norm
    /// before clipping.
    ///
    /// # Errors
    /// Where candle fails.
    pub fn step<F>(&mut self, losses: &[F]) -> Result<(f64, f64)>
    where
        F: Fn() -> Result<Tensor> + Sync,
    {
        let part = |make: &F| -> Result<(f64, GradStore)> {
            let loss = make()?;
            Ok((f64::from(loss.to_scalar::<f32>()?), loss.backward()?))
        };
        let parts: Vec<Result<(f64, GradStore)>> = std::thread::scope(|scope| {
            let others: Vec<_> = losses.iter().skip(1).map(|make| scope.spawn(|| part(make))).collect();
            let first = losses.first().map(part);
            first
                .into_iter()
                .chain(others.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("a thread died".into()))))
                .collect()
        });
        let mut parts = parts.into_iter().collect::<Result<Vec<_>>>()?.into_iter();
        let Some((mut mean, mut gradients)) = parts.next() else { return Err("no loss to step down".into()) };
        let vars = || self.decayed.0.iter().chain(&self.plain.0);
        let share = 1.0 / losses.len() as f64;
        for (loss, mut other) in parts {
            mean += loss;
            for var in vars() {
                if let (Some(a), Some(b)) = (gradients.remove(var), other.remove(var)) {
                    gradients.insert(var, (a + b)?);
                }
            }
        }
        let mut square = 0.0;
        for var in vars() {
            if let Some(gradient) = gradients.get(var) {
                square += f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
            }
        }
        let norm = square.sqrt() * share;
        let scale = if norm > self.schedule.max_norm { share * self.schedule.max_norm / norm } else { share };
        if scale != 1.0 {
            for var in vars() {
                if let Some(gradient) = gradients.remove(var) {
                    gradients.insert(var, (gradient * scale)?);
                }
            }
        }
        let rate = self.learning_rate();
        for optimiser in [&mut self.decayed.1, &mut self.plain.1] {
            optimiser.set_learning_rate(rate);
            optimiser.step(&gradients)?;
        }
        self.step += 1;
        Ok((mean * share, norm))
    }
}
