"""pre-function: run functions given in the configuration before all other plugins, in every phase."""

from headgate import Plugin
from headgate.plugins._functions import AT_LEAST_ONE, FunctionsConfig, FunctionsHandler, syntax_check


class Config(FunctionsConfig):
    entity_checks = (AT_LEAST_ONE, syntax_check("pre-function"))


class Handler(FunctionsHandler, Plugin[Config]):
    VERSION = "3.9.1"
    PRIORITY = 1_000_000
    NAME = "pre-function"
