//! Block hashes.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyList, PyString, PyTuple};

use super::arguments::positive;
use super::interrupt::detached;
use super::tokens::Tokens;
use crate::hash::{Chain, Context, DigestAlgorithm, DigestChain, MultiModalItem, Value, Xxh3Chain};

/// The hash algorithms by name.
pub enum AnyChain {
    Xxh3(Xxh3Chain),
    Digest(DigestChain),
}

impl AnyChain {
    pub fn new(algorithm: &str, seed: Option<&str>) -> PyResult<Self> {
        let digest = |algorithm| Ok(Self::Digest(DigestChain::new(algorithm, seed)));
        match algorithm {
            "xxh3" if seed.is_some() => Err(PyValueError::new_err(
                "seed: xxh3 has no seed, it is for the algorithms of vLLM",
            )),
            "xxh3" => Ok(Self::Xxh3(Xxh3Chain)),
            "sha256_cbor" => digest(DigestAlgorithm::Sha256Cbor),
            "sha256" => digest(DigestAlgorithm::Sha256),
            "xxhash_cbor" => digest(DigestAlgorithm::XxhashCbor),
            "xxhash" => digest(DigestAlgorithm::Xxhash),
            other => Err(PyValueError::new_err(format!(
                "hash algorithm {other:?}: choose xxh3, sha256_cbor, sha256, xxhash_cbor or xxhash"
            ))),
        }
    }
}

/// `None`, `int`, `str`, `bytes`, or a tuple or list of those.
struct ExtraValue(Value);

impl<'py> FromPyObject<'_, 'py> for ExtraValue {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        extra_value(object, DEEPEST_EXTRA).map(Self)
    }
}

/// Tuples within tuples that an extra key may have: a list can hold itself.
const DEEPEST_EXTRA: usize = 32;

fn extra_value(object: Borrowed<'_, '_, PyAny>, deeper: usize) -> PyResult<Value> {
    Ok(if object.is_none() {
        Value::None
    } else if let Ok(text) = object.cast::<PyString>() {
        Value::Str(text.to_str()?.to_owned())
    } else if let Ok(bytes) = object.cast::<PyBytes>() {
        Value::Bytes(bytes.as_bytes().to_vec())
    } else if object.is_instance_of::<PyInt>() {
        let int = object
            .extract()
            .map_err(|_| bad_extra("an int beyond 64 bits"))?;
        Value::Int(int)
    } else if object.is_instance_of::<PyTuple>() || object.is_instance_of::<PyList>() {
        let Some(deeper) = deeper.checked_sub(1) else {
            return Err(bad_extra("tuples nested more than 32 deep"));
        };
        let convert = |item: PyResult<Bound<'_, PyAny>>| extra_value(item?.as_borrowed(), deeper);
        Value::Tuple(object.try_iter()?.map(convert).collect::<PyResult<_>>()?)
    } else {
        let kind = object.get_type().name()?;
        return Err(bad_extra(&format!("a value of type {kind}")));
    })
}

fn bad_extra(what: &str) -> PyErr {
    PyValueError::new_err(format!(
        "extra_keys: {what}; give None, int, str, bytes, and tuples of those"
    ))
}

/// What isolates a request, from keyword arguments.
pub struct ExtraKeys(Vec<Value>);

impl<'py> FromPyObject<'_, 'py> for ExtraKeys {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let items = object.try_iter().map_err(|_| bad_extra("not a sequence"))?;
        let convert = |item: PyResult<Bound<'py, PyAny>>| Ok(item?.extract::<ExtraValue>()?.0);
        items.map(convert).collect::<PyResult<_>>().map(Self)
    }
}

pub fn context(
    salt: Option<&str>,
    lora: Option<(String, String)>,
    multimodal: Option<Vec<(String, usize, usize)>>,
    extra_keys: Option<ExtraKeys>,
) -> PyResult<Context> {
    let explicit = extra_keys.map(|keys| keys.0);
    let salt = salt.unwrap_or_default().to_owned();
    let multimodal: Vec<MultiModalItem> = multimodal
        .unwrap_or_default()
        .into_iter()
        .map(|(identifier, offset, length)| MultiModalItem {
            identifier,
            offset,
            length,
        })
        .collect();
    let derived = !salt.is_empty() || lora.is_some() || !multimodal.is_empty();
    if explicit.is_some() && derived {
        return Err(PyValueError::new_err(
            "extra_keys replaces salt, lora and multimodal: give one or the other",
        ));
    }
    if multimodal
        .iter()
        .any(|item| item.offset > u32::MAX as usize || item.length > u32::MAX as usize)
    {
        return Err(PyValueError::new_err(
            "multimodal: an item lies beyond 2^32 tokens",
        ));
    }
    if !multimodal.is_sorted_by_key(|item| item.offset) {
        return Err(PyValueError::new_err(
            "multimodal: give the items by ascending offset",
        ));
    }
    Ok(Context {
        salt,
        lora,
        multimodal,
        explicit,
    })
}

/// Hashes of the full blocks of a prompt.
#[pyfunction]
#[pyo3(signature = (
    tokens, block_size=16, algorithm="xxh3", *,
    salt=None, lora=None, multimodal=None, extra_keys=None, seed=None
))]
#[allow(clippy::too_many_arguments)]
pub fn hash_blocks<'py>(
    py: Python<'py>,
    tokens: Tokens<'py>,
    block_size: i64,
    algorithm: &str,
    salt: Option<&str>,
    lora: Option<(String, String)>,
    multimodal: Option<Vec<(String, usize, usize)>>,
    extra_keys: Option<ExtraKeys>,
    seed: Option<&str>,
) -> PyResult<Vec<Bound<'py, PyBytes>>> {
    let block_size = positive("block_size", block_size)? as usize;
    let context = context(salt, lora, multimodal, extra_keys)?;
    let tokens = tokens.as_slice();
    match AnyChain::new(algorithm, seed)? {
        AnyChain::Xxh3(chain) => hashes(py, &chain, &tokens, block_size, &context),
        AnyChain::Digest(chain) => hashes(py, &chain, &tokens, block_size, &context),
    }
}

fn hashes<'py, C: Chain>(
    py: Python<'py>,
    chain: &C,
    tokens: &[u32],
    block_size: usize,
    context: &Context,
) -> PyResult<Vec<Bound<'py, PyBytes>>> {
    let keys = detached(py, || {
        let mut keys = Vec::with_capacity(tokens.len() / block_size);
        let root = chain.root(context);
        chain.extend(root, context, 0, tokens, block_size, &mut keys);
        Ok(keys)
    })?;
    let bytes = |key| PyBytes::new(py, &chain.bytes(key));
    Ok(keys.iter().map(bytes).collect())
}
