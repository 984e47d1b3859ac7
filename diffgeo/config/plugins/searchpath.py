"""Where Hydra looks for configs: our folder, then those of the admitted plugins."""

from __future__ import annotations

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from diffgeo.config import plugins


class OfPlugins(SearchPathPlugin):
    """Hydra asks it whenever it composes a config; what comes first wins."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for plugin in plugins.admitted():
            if plugin.conf:
                search_path.append(f"the plugin {plugin.name}", f"file://{plugin.conf}")


def join() -> None:
    """Tell Hydra of the plugins, as often as one likes."""
    Plugins.instance().register(OfPlugins)
