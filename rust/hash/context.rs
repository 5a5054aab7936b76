//! What isolates a sequence besides its tokens.

/// A value inside an extra key, as Python would hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `None`.
    None,
    /// `int`, within 64 bits.
    Int(i64),
    /// `str`.
    Str(String),
    /// `bytes`.
    Bytes(Vec<u8>),
    /// `tuple`.
    Tuple(Vec<Value>),
}

impl Value {
    fn str(text: &str) -> Self {
        Self::Str(text.to_owned())
    }
}

/// An image, audio clip, ... whose placeholder tokens are part of the prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MultiModalItem {
    /// Content hash of the item.
    pub identifier: String,
    /// Position of its first placeholder token in the prompt.
    pub offset: usize,
    /// Number of placeholder tokens.
    pub length: usize,
}

/// What isolates a sequence besides its tokens: equal tokens under different contexts share nothing.
///
/// The order of the extra keys of a block (`LoRA`, multimodal items by offset, salt) is that of vLLM
/// 0.33, `vllm/v1/core/kv_cache_utils.py`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    /// Tenant or cache salt; the empty string is "no salt".
    pub salt: String,
    /// Name and path of the `LoRA` adapter.
    pub lora: Option<(String, String)>,
    /// Multimodal items, by ascending offset.
    pub multimodal: Vec<MultiModalItem>,
    /// Extra keys per block, instead of those derived from the fields above.
    pub explicit: Option<Vec<Value>>,
}

impl Context {
    /// A context with nothing but a salt.
    #[must_use]
    pub fn with_salt(salt: impl Into<String>) -> Self {
        Self {
            salt: salt.into(),
            ..Self::default()
        }
    }

    /// The values that hold for the whole sequence (none if `explicit` keys are given).
    pub(super) fn sequence_values(&self) -> Vec<Value> {
        if self.explicit.is_some() {
            return Vec::new();
        }
        self.lora_value()
            .into_iter()
            .chain(self.salt_value())
            .collect()
    }

    /// Whether [`Context::block_values`] can be other than empty.
    pub(super) fn has_block_values(&self) -> bool {
        self.explicit.is_some() || !self.multimodal.is_empty()
    }

    /// The values that belong to one block only.
    pub(super) fn block_values(&self, block: usize, block_size: usize) -> Vec<Value> {
        if let Some(explicit) = &self.explicit {
            return match explicit.get(block) {
                None | Some(Value::None) => Vec::new(),
                Some(Value::Tuple(values)) => values.clone(),
                Some(other) => vec![other.clone()],
            };
        }
        let (start, end) = (block * block_size, (block + 1) * block_size);
        self.multimodal
            .iter()
            .filter(|item| item.offset < end && item.offset + item.length > start)
            .map(|item| {
                let relative = item.offset.cast_signed() as i64 - start.cast_signed() as i64;
                let identifier = Value::str(&item.identifier);
                Value::Tuple(vec![Value::str("mm"), identifier, Value::Int(relative)])
            })
            .collect()
    }

    /// The extra keys of a block in vLLM's form: `None`, or a tuple.
    pub(super) fn extra_keys(&self, block: usize, block_size: usize) -> Value {
        if let Some(explicit) = &self.explicit {
            return explicit.get(block).cloned().unwrap_or(Value::None);
        }
        let mut values: Vec<Value> = self.lora_value().into_iter().collect();
        values.extend(self.block_values(block, block_size));
        if block == 0 {
            values.extend(self.salt_value());
        }
        if values.is_empty() {
            Value::None
        } else {
            Value::Tuple(values)
        }
    }

    fn lora_value(&self) -> Option<Value> {
        let (name, path) = self.lora.as_ref()?;
        Some(Value::Tuple(vec![
            Value::str("lora"),
            Value::str(name),
            Value::str(path),
        ]))
    }

    fn salt_value(&self) -> Option<Value> {
        if self.salt.is_empty() {
            return None;
        }
        Some(Value::Tuple(vec![
            Value::str("cache_salt"),
            Value::str(&self.salt),
        ]))
    }
}
