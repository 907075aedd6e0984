// Shows /openapi.json with Swagger UI, without its validator, which is on another host.
SwaggerUIBundle({ url: "openapi.json", dom_id: "#docs", validatorUrl: null, deepLinking: true });
