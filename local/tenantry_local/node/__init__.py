"""The node of the one-machine cluster: it runs pods as processes of this machine, without containers."""
