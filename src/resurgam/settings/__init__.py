"""What a run is told: one frozen object from defaults < resurgam.toml < APP_DIR/.env < environment.

Nothing else in Resurgam reads the environment or a settings file. `load_settings` reads everything, then
refuses everything that is wrong in a single SettingsError, so that a user mends a file once. docs/settings.md
is generated from `variables.py`.

Plain dataclasses rather than pydantic-settings: importing that took 131 ms here (python-dotenv 20 ms, and
only where a `.env` exists), which `resurgam list` would pay at every start; and it reports the first of a
secret and its _FILE, not the conflict.

    model.py, service_model.py, secret.py   the values
    parse.py       one text to one value
    table.py, variables.py, service_variables.py, repository_variables.py
                   every variable with its default and its meaning
    layers.py      the places that settings come from, and who may write to them
    connection.py  DB_*, PG*, DATABASE_URL
    load.py, load_service.py, load_repository.py   the assembly, and the rules between settings
    drill_file.py  drill.toml: what a restored copy is asked
    inherited.py   what a program that we start is given of the environment
"""

from __future__ import annotations

from resurgam.settings.inherited import inherited
from resurgam.settings.load import load_settings
from resurgam.settings.model import ConfigFile, Database, DrillRules, FileTree, RepositoryRules, Settings
from resurgam.settings.secret import Secret

__all__ = [
    "ConfigFile",
    "Database",
    "DrillRules",
    "FileTree",
    "RepositoryRules",
    "Secret",
    "Settings",
    "inherited",
    "load_settings",
]
