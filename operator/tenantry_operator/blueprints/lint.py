"""What in a version's migrations destroys data, blocks the tenants' sessions, or cannot run: PostgreSQL.

Most of it is found by the program squawk, of the package squawk-cli; its rules are explained at
https://squawkhq.com/docs/rules. What it does not know is added: how the operator runs migrations, what the
migrations before made, and statements that it lets pass. What is in strings, such as the body of a function
or of DO, nobody looks into.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import os
import re
import shutil
import sys
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from tenantry_operator.engines.base import Migration
from tenantry_operator.engines.postgres.lexer import (
    _lexemes,  # pyright: ignore[reportPrivateUsage]
    line_of,
    split,
)
from tenantry_operator.errors import Retryable
