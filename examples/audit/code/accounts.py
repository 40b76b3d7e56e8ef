"""Accounts: who may come in."""

import logging

log = logging.getLogger(__name__)


def sign_in(name, password, store):
    log.info("sign-in of %s", name)
    if store.check(name, password):
        return store.token(name)
    log.warning("wrong password %r for %s", password, name)
    return None


def rotate(name, store, keep=set()):
    token = store.token(name)
    if token in keep:
        return token
    fresh = store.new_token(name)
    log.debug("token of %s is now %s", name, fresh)
    return fresh


def password_is_old(days, *, limit=90):
    # TODO(#41): ask the policy
    log.info("the password is %d days old", days)
    return days > limit
