//! Plans: what a session or a tuner will take, before it is taken.

use crate::caller::{Caller, Struct, bytes_of_room};
use crate::error::attune_error;
use crate::handle::{self, object};
use crate::model;
use crate::session::attune_session_options;
use crate::status::{Failure, Outcome};
use crate::tune_options::attune_tune_options;
use crate::{attune_model, attune_status, call, plain};
use attune::plan::Plan;
use std::ffi::c_char;

/// Every buffer that a session or a tuner takes.
pub struct attune_plan {
    _incomplete: [u8; 0],
}

/// The object has nothing of its own: a plan is only read.
pub(crate) struct Planned;

object!(Planned, attune_plan, 6, "a plan", Option<Plan>);

/// Bytes of the longest name of a buffer, its NUL included.
pub const ATTUNE_NAME_SIZE: usize = 48;

/// What a plan comes to.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct attune_plan_totals {
    /// `sizeof(attune_plan_totals)`.
    pub size: u32,
    /// How many buffers there are.
    pub buffers: u32,
    /// What will be resident above the model file: the sum of the four below.
    pub total_bytes: u64,
    /// Adapters, with gradients and optimiser state where one is tuned.
    pub adapter_bytes: u64,
    /// Keys and values.
    pub cache_bytes: u64,
    /// Activations and scratch.
    pub work_bytes: u64,
    /// What the library keeps besides: vocabulary, logits, token lists.
    pub host_bytes: u64,
    /// The model file; not part of the total where it is mapped.
    pub weights_bytes: u64,
}

/// One buffer of a plan.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct attune_plan_buffer {
    /// `sizeof(attune_plan_buffer)`.
    pub size: u32,
    /// Extents that `shape` has.
    pub dimensions: u32,
    /// Its extents.
    pub shape: [u64; 4],
    /// Bytes.
    pub bytes: u64,
    /// What it is called; ends with NUL.
    pub name: [c_char; ATTUNE_NAME_SIZE],
    /// `adapter`, `cache`, `work` or `host`; ends with NUL.
    pub region: [c_char; 16],
    /// How its numbers are stored; ends with NUL.
    pub element_type: [c_char; 16],
}

plain! {
    attune_plan_totals = attune_plan_totals {
        size: size_of::<attune_plan_totals>() as u32,
        buffers: 0, total_bytes: 0, adapter_bytes: 0, cache_bytes: 0, work_bytes: 0, host_bytes: 0, weights_bytes: 0,
    };
    attune_plan_buffer = attune_plan_buffer {
        size: size_of::<attune_plan_buffer>() as u32,
        dimensions: 0, shape: [0; 4], bytes: 0, name: [0; ATTUNE_NAME_SIZE], region: [0; 16], element_type: [0; 16],
    };
}

/// Gives a plan to the caller.
pub(crate) fn give(to: crate::caller::Out<*mut attune_plan>, plan: Plan) {
    to.set(handle::insert_with(Planned, Some(plan)));
}

fn with<R>(plan: *const attune_plan, body: impl FnOnce(&Plan) -> Outcome<R>) -> Outcome<R> {
    let entry = handle::find::<Planned>(plan)?;
    body(entry.aside.as_ref().ok_or_else(|| Failure::null("plan"))?)
}

/// What a session with these options will take. With a budget that nothing fits, `ATTUNE_ERROR_BUDGET`, and the error's `needed_bytes` would do.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_plan_session(
    model: *const attune_model,
    options: *const attune_session_options,
    plan: *mut *mut attune_plan,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let (model, out) = (model::of(model)?, c.out(plan, "plan")?);
        give(out, attune::plan::for_session(&model, &c.options(options)?.read()?)?);
        Ok(())
    })
}

/// What a tuner with these options will take. For preferences it depends on the examples too: this is then the plan of supervised tuning with the same options,
/// and `attune_tuner_get_plan` has the real one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_plan_tuning(
    model: *const attune_model,
    options: *const attune_tune_options,
    plan: *mut *mut attune_plan,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let (model, out) = (model::of(model)?, c.out(plan, "plan")?);
        give(out, attune::plan::for_tuning(&model, &c.options(options)?.read(c)?.tune)?);
        Ok(())
    })
}

/// What a plan comes to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_plan_get_totals(
    plan: *const attune_plan,
    totals: *mut attune_plan_totals,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let out = c.out_struct(totals)?;
        with(plan, |plan| {
            out.set(attune_plan_totals {
                buffers: plan.buffers.len() as u32,
                total_bytes: plan.total_bytes,
                adapter_bytes: plan.regions.adapter,
                cache_bytes: plan.regions.cache,
                work_bytes: plan.regions.work,
                host_bytes: plan.regions.host,
                weights_bytes: plan.weights_bytes,
                ..<attune_plan_totals as Struct>::default()
            });
            Ok(())
        })
    })
}

/// One of its buffers, counted from 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_plan_get_buffer(
    plan: *const attune_plan,
    index: u32,
    buffer: *mut attune_plan_buffer,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let out = c.out_struct(buffer)?;
        with(plan, |plan| {
            let missing = || Failure::option("index", &format!("below {}", plan.buffers.len()), index);
            let buffer = plan.buffers.get(index as usize).ok_or_else(missing)?;
            let mut found = attune_plan_buffer {
                dimensions: buffer.shape.len().min(4) as u32,
                bytes: buffer.bytes as u64,
                ..<attune_plan_buffer as Struct>::default()
            };
            found.shape.iter_mut().zip(&buffer.shape).for_each(|(to, n)| *to = *n as u64);
            fixed(&mut found.name, &buffer.name);
            fixed(&mut found.region, buffer.region);
            fixed(&mut found.element_type, buffer.ty);
            out.set(found);
            Ok(())
        })
    })
}

/// A plan as JSON: totals, buffers, and what a budget has turned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_plan_describe(
    plan: *const attune_plan,
    buffer: *mut c_char,
    size: usize,
    length: *mut usize,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| with(plan, |plan| c.copy_out(&model::json(plan)?, buffer, size, length)))
}

/// Frees a plan. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_plan_free(plan: *mut attune_plan) -> attune_status {
    call!(std::ptr::null_mut(), |_: &Caller| handle::free::<Planned>(plan))
}

/// Copies a name into an array that is all zeros.
pub(crate) fn fixed(to: &mut [c_char], text: &str) {
    let part = bytes_of_room(text, to.len());
    to.iter_mut().zip(part).for_each(|(to, byte)| *to = *byte as c_char);
}
