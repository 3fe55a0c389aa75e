"""Which rooms are to be guarded: by name, and by the mode that is in force in each."""

from collections.abc import Sequence

from bouncer.configuration.load import load
from bouncer.configuration.model import KEY, Config, ConfigError, Layer, PluginLoaders
from bouncer.policy import Policy
from bouncer.selectors import matches

REMEMBERED = 50_000
"""Rooms whose mode is remembered, so that metadata is read only when it changes."""


class Choice:
    """Says of a room's name and metadata whether it is to be guarded."""

    def __init__(
        self,
        only: Sequence[str],
        excluded: Sequence[str],
        layers: Sequence[Layer],
        registry: Sequence[type[Policy]],
        plugins: PluginLoaders,
    ) -> None:
        """Make it of globs on names, and of the configuration below the room's own.

        Raises: ConfigError if that configuration is wrong.
        """
        self._only, self._excluded = tuple(only), tuple(excluded)
        self._layers, self.registry, self.plugins = tuple(layers), registry, plugins
        self.configuration = load(layers, registry, plugins)
        self._default = self.configuration.mode != "off"
        self._known: dict[str, tuple[int, Config | None]] = {}

    def __call__(self, sid: str, name: str, metadata: str) -> bool:
        """Return True if the room is to be guarded.

        A configuration that can't be read asks for a bouncer all the same: the bouncer tells the room what is wrong.
        """
        if not matches(name, self._only) or matches(name, self._excluded):
            return False
        if KEY not in metadata.lower():
            self._known.pop(sid, None)
            return self._default
        fingerprint = hash(metadata)
        known = self._known.get(sid)
        if known is None or known[0] != fingerprint:
            config: Config | None
            try:
                config = self.load([*self._layers, Layer("room metadata", metadata, shared=True)])
            except ConfigError:
                config = None
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            known = self._known[sid] = (fingerprint, config)
        return known[1] is None or known[1].mode != "off"

    def load(self, layers: Sequence[Layer]) -> Config:
        """Return what is in force under these layers. Raises: ConfigError."""
        return load(layers, self.registry, self.plugins)

    def config(self, sid: str) -> Config | None:
        """Return the configuration in force in a room; None if its metadata can't be read."""
        known = self._known.get(sid)
        return known[1] if known else self.configuration
