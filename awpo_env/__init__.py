"""Gymnasium environments that simulate multi-turn tool APIs, their outcome rewards, and judges of reasoning.

Importing this package registers the ids ``awpo/...`` with Gymnasium and does nothing else; names load on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from awpo_env.registration import ENV_IDS, register_envs

if TYPE_CHECKING:
    from awpo_env.env import ToolUseEnv
    from awpo_env.errors import AwpoError, SuiteError, ToolError, UsageError
    from awpo_env.functions import suite_from_functions
    from awpo_env.limits import Limits
    from awpo_env.mcp_tools import suite_from_mcp
    from awpo_env.openapi_tools import suite_from_openapi
    from awpo_env.remote import Reset
    from awpo_env.suites import Suite, load_suite
    from awpo_env.types import Task

_HOME = {
    "AwpoError": "errors",
    "Limits": "limits",
    "Reset": "remote",
    "Suite": "suites",
    "SuiteError": "errors",
    "Task": "types",
    "ToolError": "errors",
    "ToolUseEnv": "env",
    "UsageError": "errors",
    "load_suite": "suites",
    "suite_from_functions": "functions",
    "suite_from_mcp": "mcp_tools",
    "suite_from_openapi": "openapi_tools",
}

__all__ = [
    "ENV_IDS",
    "AwpoError",
    "Limits",
    "Reset",
    "Suite",
    "SuiteError",
    "Task",
    "ToolError",
    "ToolUseEnv",
    "UsageError",
    "load_suite",
    "register_envs",
    "suite_from_functions",
    "suite_from_mcp",
    "suite_from_openapi",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


register_envs()
