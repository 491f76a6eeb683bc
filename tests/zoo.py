"""The former name of :mod:`tests.tiny_models`, until every test uses the new one."""

from tests.tiny_models import *  # noqa: F403
