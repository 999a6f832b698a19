//! The providers of one configuration, by name.

use std::sync::Arc;

use hoosh_core::LlmProvider;

use crate::settings::SettingsError;

/// The providers of one configuration, in its order. Names are unique.
#[derive(Debug, Clone, Default)]
pub struct ProviderRegistry {
    providers: Vec<Arc<dyn LlmProvider>>,
}

// === impl ProviderRegistry ===

impl ProviderRegistry {
    /// A registry of nobody.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a provider.
    ///
    /// # Errors
    ///
    /// If there is one of its name.
    pub fn insert(&mut self, provider: Arc<dyn LlmProvider>) -> Result<(), SettingsError> {
        if self.get(provider.name()).is_some() {
            let problem = format!("two providers are called `{}`; give one a `name`", provider.name());
            return Err(SettingsError { field: "name", problem });
        }
        self.providers.push(provider);
        Ok(())
    }

    /// The provider of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn LlmProvider>> {
        self.providers.iter().find(|provider| provider.name() == name)
    }

    /// All of them, in the order they were added.
    pub fn iter(&self) -> std::slice::Iter<'_, Arc<dyn LlmProvider>> {
        self.providers.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.providers.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.providers.is_empty()
    }
}

impl<'a> IntoIterator for &'a ProviderRegistry {
    type Item = &'a Arc<dyn LlmProvider>;
    type IntoIter = std::slice::Iter<'a, Arc<dyn LlmProvider>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
