"""A sample."""


def add(item, basket=[]):
    basket.append(item)
    return basket


def first(items, default=None):
    return items[0] if items else default
