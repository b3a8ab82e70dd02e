"""Profiling: what each kind of module costs in time on this machine, fitted to whole models."""

from compress.profiling.measuring import ProfileConfig, profile, with_profile
from compress.profiling.page import profile_page

__all__ = ["ProfileConfig", "profile", "profile_page", "with_profile"]
