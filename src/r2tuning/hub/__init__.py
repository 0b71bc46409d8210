"""Files of the Hugging Face hub: what there is, fetched so that it can go on where it stopped, and checked.

Nothing is imported here, as the hub's client takes a tenth of a second that those who only hash files need not wait.
"""
