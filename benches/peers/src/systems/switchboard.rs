//! Where the threads of this process meet: ends of channels that have no name of their own are left
//! here under one.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use anyhow::{Context as _, Result};

type Ends = HashMap<String, Box<dyn Any + Send>>;

static LEFT: LazyLock<Mutex<Ends>> = LazyLock::new(Mutex::default);

/// Leaves an end for another thread.
pub fn leave<T: Any + Send>(name: String, end: T) {
    LEFT.lock().unwrap_or_else(PoisonError::into_inner).insert(name, Box::new(end));
}

/// Takes an end that was left.
///
/// # Errors
///
/// When nothing of this type was left under the name.
pub fn take<T: Any + Send>(name: &str) -> Result<T> {
    let end = LEFT.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    let end = end.with_context(|| format!("nobody left an end of {name:?} in this process"))?;
    end.downcast()
        .map(|end| *end)
        .ok()
        .with_context(|| format!("the end of {name:?} is of another type"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_taken_once_and_as_what_it_is() {
        leave("switchboard-test".to_owned(), 7_u32);
        assert!(take::<u32>("switchboard-other").is_err());
        assert_eq!(take::<u32>("switchboard-test").unwrap(), 7);
        assert!(take::<u32>("switchboard-test").is_err());
        leave("switchboard-test".to_owned(), 7_u32);
        assert!(take::<u64>("switchboard-test").is_err());
    }
}
