"""Programs: does what a model wrote do what it should?"""
