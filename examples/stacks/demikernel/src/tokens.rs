//! The queue tokens that the application waits for, and what each is about.
//!
//! In: tokens as operations begin; out: by place or by token, what is complete. `wait_any` takes all tokens as one slice,
//! so they lie in one; a finished one's place is taken by the last.

use demikernel::QToken;
use std::collections::HashMap;

/// Whose operation it is: a place among the connections, and which of those that had it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whose {
    pub index: usize,
    pub life: u64,
}

/// What an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// A connection is waited for.
    Accept,
    /// Bytes of a connection are waited for.
    Pop(Whose),
    /// So many bytes are on their way until the peer has acknowledged them.
    Push(Whose, usize),
    /// A connection's end is waited for.
    Close(Whose),
}

/// All operations under way.
#[derive(Debug, Default)]
pub struct Tokens {
    tokens: Vec<QToken>,
    ops: Vec<Op>,
    /// Places by token, kept only for those who wait without a slice.
    places: Option<HashMap<QToken, usize>>,
}

impl Tokens {
    /// None yet; found by token too, if asked.
    pub fn new(by_token: bool) -> Tokens {
        Tokens {
            places: by_token.then(HashMap::new),
            ..Tokens::default()
        }
    }

    /// For `wait_any`.
    pub fn all(&self) -> &[QToken] {
        &self.tokens
    }

    /// An operation has begun.
    pub fn add(&mut self, token: QToken, op: Op) {
        if let Some(places) = &mut self.places {
            places.insert(token, self.tokens.len());
        }
        self.tokens.push(token);
        self.ops.push(op);
    }

    /// The operation at this place is complete.
    pub fn take_at(&mut self, place: usize) -> Op {
        let token = self.tokens.swap_remove(place);
        if let Some(places) = &mut self.places {
            places.remove(&token);
            if let Some(moved) = self.tokens.get(place) {
                places.insert(*moved, place);
            }
        }
        self.ops.swap_remove(place)
    }

    /// The operation of this token is complete.
    pub fn take(&mut self, token: QToken) -> Option<Op> {
        let place = *self.places.as_ref()?.get(&token)?;
        Some(self.take_at(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Operations are found by place and by token, whichever went before.
    #[test]
    fn tokens_keep_their_operations() {
        let mut tokens = Tokens::new(true);
        let pop = |index| Op::Pop(Whose { index, life: 1 });
        for n in 0..5 {
            tokens.add(QToken::from(n as u64 + 100), pop(n));
        }
        assert_eq!(tokens.take(QToken::from(101)), Some(pop(1)));
        assert_eq!(tokens.take(QToken::from(101)), None);
        assert_eq!(tokens.take(QToken::from(104)), Some(pop(4)));
        assert_eq!(tokens.take_at(0), pop(0));
        assert_eq!(tokens.take(QToken::from(103)), Some(pop(3)));
        assert_eq!(tokens.all(), [QToken::from(102)]);
    }
}
