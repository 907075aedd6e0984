"""All jobs, in the order of `--help`."""

from training.commands.evaluate import add_compare, add_evaluate, add_foreign
from training.commands.export import add_export
from training.commands.fetch import add_fetch
from training.commands.own import add_own
from training.commands.publish import add_import, add_publish
from training.commands.store import add_activate, add_prune, add_versions
from training.commands.train import add_train

JOBS = (
    add_own,
    add_fetch,
    add_train,
    add_compare,
    add_evaluate,
    add_foreign,
    add_publish,
    add_import,
    add_versions,
    add_activate,
    add_prune,
    add_export,
)
