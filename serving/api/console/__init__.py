"""The web console on the ops listener: a page that shows what the admin API and the probes tell.

The page is static and loads nothing from elsewhere (its content policy forbids it); it shows no
figure before somebody signs in with an administrator's key or an identity provider's token, and
each of its acts is an ordinary call of the admin API, with that person's rights. Two paths are its
own: the controller's decisions, which live in another process, and the playground, which sends a
person's own API key to our own public listener.
"""
