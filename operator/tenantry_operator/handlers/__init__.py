"""What kopf calls. Handlers keep what they are told and say which keys to reconcile; nothing else.

They are event handlers only: kopf then writes neither finalizers nor annotations, and a reconcile that has
nothing to do writes nothing at all. What there is at the start is listed before (:meth:`Operator.load`), so
that nothing is found missing only because it has not been seen yet. kopf's indices promise the same, but
wake every waiting object for every object that was indexed: ten thousand of them take minutes.
"""
