//! The stack of a program that was built without lwIP: there is none.

use crate::{LwipConfig, LwipError};
use stack_border::{App, Tally};
use stack_netio::{Device, DeviceError};
use std::convert::Infallible;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Cannot be made.
pub struct Stack<D> {
    never: Infallible,
    device: PhantomData<D>,
}

impl<D: Device> Stack<D> {
    /// Always [`LwipError::NotBuilt`].
    pub fn new(_config: LwipConfig, _device: D) -> Result<Stack<D>, LwipError> {
        Err(LwipError::NotBuilt)
    }

    /// Cannot be called.
    pub fn tally(&self) -> Arc<Tally> {
        match self.never {}
    }

    /// Cannot be called.
    pub fn main_loop(
        &mut self,
        _app: &mut impl App,
        _stop: &AtomicBool,
    ) -> Result<(), DeviceError> {
        match self.never {}
    }
}
