use std::fs;

use super::*;
use crate::tools::ToolPaths;
