//! The array of handles by which IX names connections to the application.
//!
//! In: connections that are accepted and closed; out: nothing that others use, only the work. In IX both scan the array
//! from its first place on, so that accepting and closing take longer the more connections are open; the scan is a
//! choice here, since the connections' own numbers are names enough.

use stack_tcp::ConnId;

/// The handles of a core, or nothing if they are not scanned.
#[derive(Debug)]
pub struct Handles {
    places: Option<Vec<Option<ConnId>>>,
}

impl Handles {
    /// An empty array, scanned or not there.
    pub fn new(scan: bool) -> Handles {
        Handles {
            places: scan.then(Vec::new),
        }
    }

    /// Takes the first free place.
    #[inline(never)]
    pub fn take(&mut self, conn: ConnId) {
        let Some(places) = &mut self.places else {
            return;
        };
        match places.iter().position(Option::is_none) {
            Some(free) => places[free] = Some(conn),
            None => places.push(Some(conn)),
        }
    }

    /// Frees the connection's place.
    #[inline(never)]
    pub fn free(&mut self, conn: ConnId) {
        let Some(places) = &mut self.places else {
            return;
        };
        if let Some(place) = places.iter_mut().find(|place| **place == Some(conn)) {
            *place = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first free place is taken again; without the scan there is no array.
    #[test]
    fn places_are_reused_from_the_front() {
        let conn = ConnId::from_raw;
        let mut handles = Handles::new(true);
        (0..4).for_each(|raw| handles.take(conn(raw)));
        handles.free(conn(1));
        handles.take(conn(9));
        let expected = [0, 9, 2, 3].map(|raw| Some(conn(raw))).to_vec();
        assert_eq!(handles.places, Some(expected));
        let mut none = Handles::new(false);
        none.take(conn(1));
        assert_eq!(none.places, None);
    }
}
