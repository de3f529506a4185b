use super::*;
use crate::lcr::Progress;
