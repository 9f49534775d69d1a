"""`kong.ctx`: values that live as long as a request, shared by all plugins or private to one plugin.

The namespaces are kept in the request's `Call`. Outside of a request there is none: `kong.ctx.shared` and
`kong.ctx.plugin` are None there, so using them fails, as in Kong.
"""

from headgate.pdk._call import current_call
from headgate.pdk._namespace import Namespace


class Context:
    """`kong.ctx`."""

    __slots__ = ()

    @property
    def shared(self) -> Namespace:
        """Namespace of the request, one for all plugins; created on first use, kept until the end of log.

        None outside of a request (typed as if it were always there: plugin code runs in requests).

        Phases: any that belongs to a request.
        """
        call = current_call.get()
        if call is None:
            return None  # type: ignore[return-value]
        if call.shared is None:
            call.shared = Namespace()
        return call.shared

    @property
    def plugin(self) -> Namespace:
        """Namespace of the running plugin in this request: one per plugin name, for all its phases and instances.

        None outside of a plugin's handler.

        Phases: any that belongs to a request.
        """
        call = current_call.get()
        if call is None or call.instance is None:
            return None  # type: ignore[return-value]
        namespaces = call.plugin_namespaces
        if namespaces is None:
            namespaces = call.plugin_namespaces = {}
        name = call.instance.name
        namespace = namespaces.get(name)
        if namespace is None:
            namespace = namespaces[name] = Namespace()
        return namespace
