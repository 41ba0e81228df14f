'use strict';

exports.handler = async (event) => `${event.json() && event.query.a && event.path.slice(1)}`;
