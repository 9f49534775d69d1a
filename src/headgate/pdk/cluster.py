"""`kong.cluster`: identity of the cluster (PDK reference 17)."""

from headgate.pdk._node import node
from headgate.pdk._phase import any_phase


class Cluster:
    """`kong.cluster`."""

    __slots__ = ()

    @any_phase
    def get_id(self) -> str | None:
        """Return the cluster's UUID, the value of the datastore's parameter `cluster_id`; None when there is none, as
        without a database.
        """
        if node.snapshot is None:
            return None
        for parameter in node.snapshot.all("parameters"):
            if parameter.get("key") == "cluster_id":
                return str(parameter["value"])
        return None


cluster = Cluster()
